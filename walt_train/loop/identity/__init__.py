"""Who is who: home's certificate authorities, one-time tokens, device certificates, the broker's configuration."""
