"""Name servers with PowerDNS, their zones and their keys."""
