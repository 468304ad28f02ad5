"""Where things live on a server, in one place. docs/protocol.md and docs/security.md name the same paths."""

from __future__ import annotations

LIBEXEC = "/usr/local/libexec/serverflow"
RUNNER = LIBEXEC + "/runner"
CURRENT = LIBEXEC + "/current"
VERSIONS = LIBEXEC + "/versions"

CONFIG = "/etc/serverflow"
SERVER_ID = CONFIG + "/server_id"
TRUST = CONFIG + "/trust"
APPS = CONFIG + "/apps"
FIREWALL = CONFIG + "/firewall"
CRON = CONFIG + "/cron"  # jobs
NOTIFY = CONFIG + "/notify"  # channels of alerts, with their secrets
CERT = CONFIG + "/cert"  # certificates that are to be had, with the secrets for that
CERTS = CONFIG + "/certs"  # those that there are: links into the next
CERT_VERSIONS = CERTS + "/.versions"  # with their keys

CRONTAB = "/etc/cron.d/serverflow"
AUTHORIZED_KEYS = "/etc/ssh/serverflow_authorized_keys"
PASSWD = "/etc/passwd"  # noqa: S105  (the file of accounts)
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
SSHD_CONFIG = "/etc/ssh/sshd_config"
SSHD_DROP_IN = "/etc/ssh/sshd_config.d/00-serverflow.conf"
SUDOERS = "/etc/sudoers.d/serverflow"
#: systemd's units of the administrator, and the links that enable them.
UNITS = "/etc/systemd/system"
BOOT_UNIT = UNITS + "/serverflow-rollback.service"
BOOT_LINK = UNITS + "/sysinit.target.wants/serverflow-rollback.service"
BOOT_LINK_ONCE = UNITS + "/multi-user.target.wants/serverflow-rollback.service"  # of bundles before

STATE = "/var/lib/serverflow"
IDENTITY = STATE + "/identity"
IDENTITY_NEXT = STATE + "/identity.next"
IDENTITY_SWITCH = STATE + "/identity.switch"  # the operation that puts the next key in its place
HOST_KEY_NEXT = STATE + "/host_key.next"  # not beside the one in use: sandboxes see /etc
OPS = STATE + "/ops"
SAFE = STATE + "/safe"
BLOBS = STATE + "/blobs"
APPLIED = STATE + "/applied"
CHAIN = STATE + "/receipts.chain"  # its closed segments and its checkpoints are named after it: segments.py
LOCKS = STATE + "/locks"
KEPT = STATE + "/kept"  # versions of files that others wrote, before ours took their place
WRITTEN = STATE + "/written"  # what we last wrote, file by file
BALLAST = STATE + "/ballast"
CRON_STATE = STATE + "/cron"  # histories of jobs, and who installed them
ALERTS = STATE + "/alerts"
CERT_STATE = STATE + "/cert"  # what is known of each certificate
ACME = STATE + "/acme"  # accounts with authorities: the folder of whoever talks to them

RUN = "/run/serverflow"
BOOT = RUN + "/boot"
CRON_RUN = RUN + "/cron"
CERT_RUN = RUN + "/cert"
ALERTS_IN_MEMORY = RUN + "/alerts"  # what a full disk does not take

LOGIN_USER = "serverflow"
READ_USER = "serverflow-read"

PYTHON = "/usr/bin/python3"

#: For programs that root starts here: nothing of the caller's.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
