"""Tell twistd that there is an ``mdmd``. Nothing of mdmd is imported until it is asked for."""

from twisted.application.service import ServiceMaker

mdmd = ServiceMaker("mdmd", "mdmd.tap", "An Apple MDM server", "mdmd")
