"""The file of kernel values that is ours, for the action that writes it and the executor that has it applied."""

from __future__ import annotations

#: sysctl.d(5): read at each start as well.
FILE = "/etc/sysctl.d/60-serverflow.conf"
