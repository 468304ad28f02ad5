"""The area system on a real server: what is changed is seen with hostname(1), date(1), dpkg-query(1), docker."""

from __future__ import annotations

from collections.abc import Callable

from .areas import changed, planned, run, told
from .operator import Operator
from .target import Target, call


def test_facts(operator: Operator, target: Target) -> None:
    facts = run(operator, "system", "info")["data"]
    assert facts["hostname"] == target.run("hostname").stdout.strip()
    assert facts["kernel"] == target.run("uname", "-r").stdout.strip()
    assert facts["arch"] == target.run("uname", "-m").stdout.strip()


def test_disks(operator: Operator, target: Target) -> None:
    (root,) = [row for row in run(operator, "system", "disk")["data"]["filesystems"] if row["mount"] == "/"]
    assert root["total"] == int(target.run("df", "--output=size", "-B1", "/").stdout.split()[-1])


def test_hostname(operator: Operator, target: Target) -> None:
    try:
        assert changed(operator, "system", "hostname", "web-one", "--yes") == ["update hostname web-one"]
        assert target.run("hostname").stdout == "web-one\n"
        assert target.run("cat", "/etc/hostname").stdout == "web-one\n"

        target.run("hostname", "by-hand")
        drift = run(operator, "system", "hostname", "web-one", "--plan")["changes"]
        assert [change["fields"] for change in drift] == [{"in force": ["by-hand", "web-one"]}]
        changed(operator, "system", "hostname", "web-one", "--yes")
        assert target.run("hostname").stdout == "web-one\n"
    finally:
        run(operator, "system", "hostname", "web1", "--yes")


def test_timezone(operator: Operator, target: Target) -> None:
    def zone() -> str:
        return target.run("readlink", "/etc/localtime").stdout.strip().removeprefix("/usr/share/zoneinfo/")

    before = zone()
    try:
        assert changed(operator, "system", "timezone", "Asia/Tokyo", "--yes") == ["update timezone Asia/Tokyo"]
        assert zone() == "Asia/Tokyo"
        assert target.run("date", "+%Z").stdout == "JST\n"

        target.run("ln", "-sf", "/usr/share/zoneinfo/Europe/Paris", "/etc/localtime")
        drift = run(operator, "system", "timezone", "Asia/Tokyo", "--plan")["changes"]
        assert [change["fields"] for change in drift] == [{"localtime": ["Europe/Paris", "Asia/Tokyo"]}]
        changed(operator, "system", "timezone", "Asia/Tokyo", "--yes")
        assert zone() == "Asia/Tokyo"
    finally:
        run(operator, "system", "timezone", before, "--yes")


#: A package in two versions, and a source that has the newer one. The versions differ in length: apt notices a change
#: of dpkg's status by time and size.
_SOURCE = """
set -e
mkdir -p /opt/repo
for version in 1.0 2.0-long; do
    mkdir -p /tmp/build/DEBIAN
    printf 'Package: sf-dummy\\nVersion: %s\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n' \
        $version > /tmp/build/DEBIAN/control
    dpkg-deb --build /tmp/build /opt/repo/$version.deb >/dev/null
    rm -r /tmp/build
done
{ dpkg-deb -f /opt/repo/2.0-long.deb; printf 'Filename: ./2.0-long.deb\\nSize: %s\\nSHA256: %s\\n' \
    $(stat -c %s /opt/repo/2.0-long.deb) $(sha256sum /opt/repo/2.0-long.deb | cut -d' ' -f1); } > /opt/repo/Packages
echo 'deb [trusted=yes] file:/opt/repo ./' > /etc/apt/sources.list.d/dummy.list
dpkg -i /opt/repo/1.0.deb
touch -d '2 hours ago' /var/lib/apt/lists/partial
"""
_NO_SOURCE = "dpkg -P sf-dummy; rm -rf /opt/repo /etc/apt/sources.list.d/dummy.list /var/lib/apt/lists/_opt_repo*"


def test_update(operator: Operator, target: Target) -> None:
    def version() -> str:
        return target.run("dpkg-query", "-W", "-f", "${Version}", "sf-dummy").stdout

    target.run("sh", "-c", _SOURCE)
    try:
        assert planned(operator, "system", "update") == ["run package lists"]
        done = run(operator, "system", "update", "--yes")
        assert told(done) == ["run package lists", "update package all"]
        assert done["changes"][1]["fields"]["sf-dummy"] == ["1.0", "2.0-long"]
        assert version() == "2.0-long"

        target.run("dpkg", "-i", "--force-downgrade", "/opt/repo/1.0.deb")
        (drift,) = run(operator, "system", "update", "--plan")["changes"]
        assert drift["fields"] == {"sf-dummy": ["1.0", "2.0-long"]}
        assert changed(operator, "system", "update", "--yes") == ["update package all"]
        assert version() == "2.0-long"
    finally:
        target.run("sh", "-c", _NO_SOURCE)


def _started(target: Target) -> str:
    return call("docker", "inspect", "-f", "{{.State.StartedAt}}", target.container).stdout


def test_reboot_waits_until_the_server_is_back(fresh_operator: Operator, fresh_target: Callable[..., Target]) -> None:
    target = fresh_target()
    fresh_operator.add("web1", target)
    before = _started(target)
    call("docker", "update", "--restart=always", target.container)  # what a machine's firmware does
    done = run(fresh_operator, "system", "reboot", "--yes")
    assert (done["outcome"], told(done)) == ("done", ["run machine reboot"])
    assert _started(target) > before
    assert run(fresh_operator, "system", "info")["outcome"] == "done"

    call("docker", "update", "--restart=no", target.container)
    gone = run(fresh_operator, "system", "reboot", "--yes", "--timeout", "3s", exit=13)
    assert gone["error"]["code"] == "not-back"
    assert told(gone) == ["run machine reboot"]
