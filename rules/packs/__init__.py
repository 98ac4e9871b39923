"""Rule packs as TOML files. This package only gives them an import path to be found by."""
