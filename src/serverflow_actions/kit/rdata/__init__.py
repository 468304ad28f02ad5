"""Values of resource records in one canonical spelling, a file for each family of types.

Each reader takes one line without control characters and the zone that relative names belong to. It returns what
PowerDNS takes and gives back, or raises ValueError.
"""
