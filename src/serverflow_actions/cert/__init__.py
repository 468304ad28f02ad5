"""Certificates: this server gets and renews its own, by ACME and DNS-01."""
