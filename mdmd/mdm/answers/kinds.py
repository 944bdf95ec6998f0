"""
Of which kind the fields of an inventory are that devices tell one by one.

Source: Apple's schema, the answers to DeviceInformation and SecurityInfo.
"""

from datetime import datetime

_NAMES: dict[type, str] = {
    str: """
        BluetoothMAC BootstrapTokenAllowedForAuthentication BuildVersion CarrierSettingsVersion
        CurrentCarrierNetwork CurrentMCC CurrentMNC DeviceID DeviceName EACSPreflight
        EASDeviceIdentifier EthernetMAC FDE_PersonalRecoveryKeyDeviceKey HostName ICCID IMEI
        iTunesStoreAccountHash LocalHostName MEID Model ModelName ModelNumber
        ModemFirmwareVersion OSVersion PhoneNumber ProductName ProvisioningUDID SerialNumber
        SIMCarrierNetwork SIMMCC SIMMNC SoftwareUpdateDeviceID SubscriberCarrierNetwork
        SubscriberMCC SubscriberMNC SupplementalBuildVersion SupplementalOSVersionExtra TimeZone
        UDID WiFiMAC
    """,
    bool: """
        AppAnalyticsEnabled AuthenticatedRootVolumeEnabled AwaitingConfiguration
        BootstrapTokenRequiredForKernelExtensionApproval BootstrapTokenRequiredForSoftwareUpdate
        DataRoamingEnabled DiagnosticSubmissionEnabled EnrolledViaDEP FDE_Enabled
        FDE_HasInstitutionalRecoveryKey FDE_HasPersonalRecoveryKey HasBattery
        IsActivationLockEnabled IsActivationLockManageable IsActivationLockSupported
        IsAppleSilicon IsCloudBackupEnabled IsDeviceLocatorServiceEnabled IsDoNotDisturbInEffect
        IsMDMLostModeEnabled IsMultiUser IsNetworkTethered IsRecoveryLockEnabled IsRoaming
        IsSupervised IsUserEnrollment iTunesStoreAccountIsActive PasscodeCompliant
        PasscodeCompliantWithProfiles PasscodePresent PersonalHotspotEnabled
        PINRequiredForDeviceLock PINRequiredForEraseDevice RemoteDesktopEnabled
        SkipLanguageAndLocaleSetupForNewUsers SupportsiOSAppInstalls SupportsLOMDevice
        SystemIntegrityProtectionEnabled TemporarySessionOnly UserApprovedEnrollment
        VoiceRoamingEnabled
    """,
    int: """
        AutoLockTime CellularTechnology EstimatedResidentUsers HardwareEncryptionCaps
        MaximumResidentUsers OnlineAuthenticationGracePeriod PasscodeLockGracePeriod
        PasscodeLockGracePeriodEnforced QuotaSize ResidentUsers TemporarySessionTimeout
        UserSessionTimeout
    """,
    float: """
        AvailableDeviceCapacity BatteryLevel DeviceCapacity
    """,
    datetime: """
        LastCloudBackupDate
    """,
    bytes: """
        FDE_PersonalRecoveryKeyCMS PushToken
    """,
    dict: """
        AccessibilitySettings FirewallSettings FirmwarePasswordStatus ManagementStatus
        MDMOptions OrganizationInfo OSUpdateSettings SecureBoot SoftwareUpdateSettings
    """,
    list: """
        ActiveManagedUsers AutoSetupAdminAccounts DevicePropertiesAttestation
        ManagedAppleIDDefaultDomains ServiceSubscriptions
    """,
}
KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
