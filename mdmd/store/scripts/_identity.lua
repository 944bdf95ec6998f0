-- What the pin of a certificate (mdmd:pin:…) holds: nothing if it is issued and not in use yet,
-- this if it is revoked, else the id of the device that it belongs to.
local REVOKED = '!'
