"""The firewall: nftables rules in a table of our own."""
