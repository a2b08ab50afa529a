"""What commands are given: manifests, files of lines, keys, moments."""
