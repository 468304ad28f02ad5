"""What a key that may set managed files cannot put into them: nothing that leads to root, and nothing about our login.

Accepted content is in the case files; here is what must be refused, whatever way it is written.
"""

from __future__ import annotations

import pytest

from serverflow_actions.config._kinds import KINDS, check
from serverflow_actions.kit import Refused

_LOG = "/var/log/a.log {\n"

HOSTILE = [
    # sshd_config(5)
    ("sshd", "Match User ana\n", 1),
    ("sshd", "match all\n", 1),
    ("sshd", "Include /tmp/x\n", 1),
    ("sshd", "AuthorizedKeysCommand /tmp/x\n", 1),
    ("sshd", "AuthorizedKeysFile /tmp/keys\n", 1),
    ("sshd", "ForceCommand id\n", 1),
    ("sshd", "Subsystem sftp /tmp/x\n", 1),
    ("sshd", "MaxAuthTries 3\nHostKey /tmp/key\n", 2),
    ("sshd", "TrustedUserCAKeys /tmp/ca\n", 1),
    ("sshd", "PermitUserEnvironment yes\n", 1),
    ("sshd", "SetEnv LD_PRELOAD=/tmp/x.so\n", 1),
    ("sshd", "PermitEmptyPasswords yes\n", 1),
    ("sshd", "StrictModes no\n", 1),
    ("sshd", "AuthorizedKeysFile=/tmp/keys\n", 1),
    ("sshd", '"AuthorizedKeysFile" /tmp/keys\n', 1),
    ("sshd", "PermitRootLogin yes Match all\n", 1),
    ("sshd", "MaxAuthTries 3\vInclude /tmp/x\n", 1),
    ("sshd", "LogLevel INFO\u2028Include /tmp/x\n", 1),
    ("sshd", "LogLevel INFO\rInclude /tmp/x\n", 1),
    ("sshd", "# \\\nMaxAuthTries 3\n", 1),
    ("sshd", "DenyUsers serverflow\n", 1),
    ("sshd", "DenyUsers ana server*@10.*\n", 1),
    ("sshd", "DenyGroups *\n", 1),
    ("sshd", "AllowUsers ana # bo\n", 1),
    # sysctl.d(5)
    ("sysctl", "kernel.core_pattern=|/tmp/x\n", 1),
    ("sysctl", "kernel/core_pattern=|/tmp/x\n", 1),
    ("sysctl", "kernel.modprobe=/tmp/x\n", 1),
    ("sysctl", "kernel.poweroff_cmd=/tmp/x\n", 1),
    ("sysctl", "kernel.hotplug=/tmp/x\n", 1),
    ("sysctl", "fs.suid_dumpable=2\n", 1),
    ("sysctl", "fs.protected_symlinks=0\n", 1),
    ("sysctl", "fs.binfmt_misc.register=:x:E::x::/tmp/x:\n", 1),
    ("sysctl", "net.//.kernel.core_pattern=1\n", 1),
    ("sysctl", "net.ipv4.//.//.kernel.modprobe=x\n", 1),
    ("sysctl", "net./.x=1\n", 1),
    ("sysctl", "net/../kernel/modprobe=/tmp/x\n", 1),
    ("sysctl", "net.*.forwarding=1\n", 1),
    ("sysctl", "-net.ipv4.ip_forward=1\n", 1),
    ("sysctl", "vm.swappiness=/tmp/x\n", 1),
    ("sysctl", "vm.swappiness\n", 1),
    ("sysctl", "vm.swappiness=1\nnet.core.x=a b|c\n", 2),
    # what leaves nothing for the way back
    ("sysctl", "kernel.threads-max=20\n", 1),
    ("sysctl", "kernel.pid_max=301\n", 1),
    ("sysctl", "vm.overcommit_memory=2\n", 1),
    ("sysctl", "vm.overcommit_ratio=0\n", 1),
    ("sysctl", "vm.nr_hugepages=99999999\n", 1),
    ("sysctl", "vm.min_free_kbytes=99999999\n", 1),
    ("sysctl", "vm.user_reserve_kbytes=99999999\n", 1),
    ("sysctl", "vm.max_map_count=0\n", 1),
    ("sysctl", "fs.nr_open=8\n", 1),
    ("sysctl", "fs.file-max=0\n", 1),
    ("sysctl", "fs.file-max=04000000\n", 1),  # octal: 1048576
    ("sysctl", "fs.inotify.max_user_instances=0\n", 1),
    ("sysctl", "net.core.optmem_max=0\n", 1),
    ("sysctl", "net.core.wmem_default = 1\n", 1),
    ("sysctl", "net.unix.max_dgram_qlen=0\n", 1),
    # what cannot be set back
    ("sysctl", "kernel.unprivileged_bpf_disabled=1\n", 1),
    ("sysctl", "kernel.yama.ptrace_scope=3\n", 1),
    ("sysctl", "net.netfilter.nf_hooks_lwtunnel=1\n", 1),
    # what takes away more than comes back with it
    ("sysctl", "net.ipv6.conf.all.disable_ipv6=1\n", 1),
    ("sysctl", "net.ipv6.conf.eth0/100.disable_ipv6=1\n", 1),
    ("sysctl", "net.ipv6.conf.all.forwarding=1\n", 1),
    ("sysctl", "net.ipv6.conf.eth0.accept_ra=0\n", 1),
    ("sysctl", "net.ipv6.conf.default.autoconf=0\n", 1),
    ("sysctl", "net.ipv6.conf.eth0.addr_gen_mode=1\n", 1),
    ("sysctl", "net.ipv6.conf.eth0.mtu=1000\n", 1),
    ("sysctl", "net.mpls.platform_labels=0\n", 1),
    # limits.conf(5)
    ("limits", "ana - chroot /tmp\n", 1),
    ("limits", "@serverflow hard nproc 0\n", 1),
    ("limits", "serverflow -\n", 1),
    ("limits", "ana hard nofile 1 # root hard nproc 0\n", 1),
    # journald.conf(5)
    ("journald", "[Journal]\nTTYPath=/etc/passwd\n", 2),
    ("journald", "[Journal]\nForwardToSocket=10.0.0.1:1\n", 2),
    ("journald", "[Service]\nExecStart=/tmp/x\n", 1),
    ("journald", "[Journal]\nStorage=auto\\\n[Service]\n", 2),
    ("journald", "Storage=auto\n", 1),
    # what deletes logs, and so cannot be taken back
    ("journald", "[Journal]\nSystemMaxUse=15M\n", 2),
    ("journald", "[Journal]\nSystemMaxUse=16777215\n", 2),
    ("journald", "[Journal]\nRuntimeMaxUse=16383K\n", 2),
    ("journald", "[Journal]\nSystemMaxUse=0\n", 2),
    ("journald", "[Journal]\nSystemMaxFiles=1\n", 2),
    ("journald", "[Journal]\nSystemMaxFileSize=512K\n", 2),
    ("journald", "[Journal]\nMaxRetentionSec=1\n", 2),
    ("journald", "[Journal]\nMaxRetentionSec=23h 59min\n", 2),
    ("journald", "[Journal]\nMaxRetentionSec=1m\n", 2),
    ("journald", "[Journal]\nMaxFileSec=1us\n", 2),
    # logrotate(8)
    ("logrotate", f"{_LOG}postrotate\nid\nendscript\n}}\n", 2),
    ("logrotate", f"{_LOG}firstaction\nid\nendscript\n}}\n", 2),
    ("logrotate", f"{_LOG}compresscmd /tmp/x\n}}\n", 2),
    ("logrotate", f"{_LOG}compressoptions -x\n}}\n", 2),
    ("logrotate", f"{_LOG}mail root\n}}\n", 2),
    ("logrotate", f"{_LOG}shred\n}}\n", 2),
    ("logrotate", f"{_LOG}rotate 0\n}}\n", 2),
    ("logrotate", f"{_LOG}include /tmp/x\n}}\n", 2),
    ("logrotate", f"{_LOG}olddir /etc\n}}\n", 2),
    ("logrotate", f"{_LOG}su root root\n}}\n", 2),
    ("logrotate", f"{_LOG}su shop shadow\n}}\n", 2),
    ("logrotate", f"{_LOG}create 4755 root root\n}}\n", 2),
    ("logrotate", "include /tmp/x\n", 1),
    ("logrotate", "create 0666 root root\n", 1),
    ("logrotate", "/etc/shadow {\n}\n", 1),
    ("logrotate", "/var/log/../../etc/shadow {\n}\n", 1),
    ("logrotate", "/var/log/.*/.*/etc/shadow {\n}\n", 1),
    ("logrotate", "/var/log/a /etc/passwd {\n}\n", 1),
    ("logrotate", '"/etc/shadow" {\n}\n', 1),
    ("logrotate", "/srv/shop/log {\nrotate 3\n}\n", 3),
    ("logrotate", "/var/log/a {\nrotate 3 }\n", 2),
    ("logrotate", "/var/log/a {\nrotate 3\n", 2),
    # apt.conf(5)
    ("unattended-upgrades", 'DPkg::Post-Invoke {"id";};\n', 1),
    ("unattended-upgrades", '#include "/tmp/x";\n', 1),
    ("unattended-upgrades", "#clear APT;\n", 1),
    ("unattended-upgrades", 'Unattended-Upgrade::Verbose "true"; DPkg::Pre-Invoke "id";\n', 1),
    ("unattended-upgrades", '/* */ DPkg::Pre-Invoke "id";\n', 1),
    ("unattended-upgrades", '// x /* \nUnattended-Upgrade::Verbose "true";\n', 1),
    ("unattended-upgrades", 'Unattended-Upgrade {\nMail "x";\n};\n', 1),
    ("unattended-upgrades", 'Unattended-Upgrade::Allowed-Origins {\n"a"; }; DPkg::Pre-Invoke { "id";\n};\n', 2),
    ("unattended-upgrades", 'Unattended-Upgrade::Allowed-Origins {\nDPkg::Pre-Invoke "id";\n};\n', 2),
    ("unattended-upgrades", 'APT::Periodic::Enable "1; id";\n', 1),
    ("unattended-upgrades", 'APT::Periodic::RandomSleep "$(id)";\n', 1),
    ("unattended-upgrades", 'Unattended-Upgrade::Mail "-oQ/tmp@x";\n', 1),
    ("unattended-upgrades", 'Unattended-Upgrade::Mail "a@b; id";\n', 1),
    ("unattended-upgrades", 'Dir::Bin::dpkg "/tmp/x";\n', 1),
    ("unattended-upgrades", 'APT::Get::AllowUnauthenticated "true";\n', 1),
    ("unattended-upgrades", 'Unattended-Upgrade::Allowed-Origins {\n"a";\n', 2),
    # sudoers(5)
    ("sudoers", "serverflow ALL=(ALL) NOPASSWD: ALL\n", 1),
    ("sudoers", "%serverflow ALL=(ALL) ALL\n", 1),
    ("sudoers", "ALL ALL=(ALL) NOPASSWD: ALL\n", 1),
    ("sudoers", "#998 ALL=(ALL) ALL\n", 1),
    ("sudoers", "Defaults !env_reset\n", 1),
    ("sudoers", "Defaults:ana !requiretty\n", 1),
    ("sudoers", "#include /tmp/x\n", 1),
    ("sudoers", "#includedir /tmp\n", 1),
    ("sudoers", "@include /tmp/x\n", 1),
    ("sudoers", "User_Alias OPS = ana\n", 1),
    ("sudoers", "ana ALL=(ALL) ALL : serverflow ALL=(ALL) ALL\n", 1),
    ("sudoers", "ana ALL=(ALL) /usr/bin/id \\\n, ALL\n", 1),
    ("sudoers", "ana ALL=(ALL) /usr/bin/../../tmp/x\n", 1),
    ("sudoers", "ana ALL=(ALL) !/usr/bin/su, ALL\n", 1),
    ("sudoers", "ana, serverflow ALL=(ALL) ALL\n", 1),
    ("sudoers", "!root ALL=(ALL) ALL\n", 1),
    # what a terminal would obey
    ("motd", "hi\x1b[2J\n", 1),
    ("motd", "hi\n\x9b2J\n", 2),
    ("motd", "hi\x85\n", 1),
]


@pytest.mark.parametrize(("kind", "content", "line"), HOSTILE)
def test_hostile_content_is_refused_with_its_line(kind: str, content: str, line: int) -> None:
    with pytest.raises(Refused, match=rf"\Aline {line}: "):
        check(kind, content)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_and_blank_lines_are_content_too(kind: str) -> None:
    check(kind, "")
    check(kind, "\n \t\n")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("sshd", "port 2222\nPORT\t22\nListenAddress [::]:22\nListenAddress 10.0.0.1\n  LoginGraceTime 1m30s\n"),
        ("sshd", "Ciphers +aes256-ctr,chacha20-poly1305@openssh.com\nKexAlgorithms -diffie*\nRekeyLimit 1G 1h\n"),
        ("sshd", "DenyUsers ana bo@10.0.0.0/8\nMaxStartups 10:30:60\nPermitRootLogin prohibit-password\n"),
        ("sysctl", "net.ipv4.tcp_rmem = 4096 87380 6291456\nnet.ipv4.conf.eth0/100.rp_filter=1\n"),
        ("sysctl", "net.ipv4.tcp_congestion_control=bbr\nnet.ipv4.ip_local_reserved_ports = 8080,9000-9010\n"),
        ("sysctl", "vm.overcommit_memory=1\nvm.max_map_count=262144\nfs.file-max=9223372036854775807\n"),
        ("sysctl", "kernel.yama.ptrace_scope=2\nkernel.unprivileged_bpf_disabled=2\nkernel.sysrq=176\n"),
        ("sysctl", "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.accept_redirects=0\nnet.core.somaxconn=4096\n"),
        ("limits", "1000:2000 - memlock unlimited\n% - maxlogins 5\nroot soft nice -10\n"),
        ("journald", "[Journal]\nRateLimitIntervalSec = 1min 30s\nCompress=512K\nAudit=keep\n"),
        ("journald", "[Journal]\nSystemMaxUse=16M\nRuntimeMaxUse=1G\nMaxRetentionSec=0\nMaxFileSec=23h 60min\n"),
        ("journald", "[Journal]\nMaxRetentionSec=1 month\nMaxFileSec=2weeks\nSystemMaxFiles=100\n"),
        ("logrotate", "/var/log/a.log\n/var/log/b/*.log {\nsize 10M\ndateformat -%Y%m%d\nextension .log\n}\n"),
        ("unattended-upgrades", 'Unattended-Upgrade::Origins-Pattern {\n// all\n"origin=Debian,label=Debian";\n};\n'),
        ("sudoers", "ana web1.acme.example = (www-data:www-data) NOPASSWD:/usr/bin/tail -f *\n"),
    ],
)
def test_what_people_write_is_accepted(kind: str, content: str) -> None:
    check(kind, content)
