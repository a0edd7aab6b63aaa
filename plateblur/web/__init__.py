"""HTTP: the documented endpoint, `/v1` and the pages; meets the rest in `create_app`."""
