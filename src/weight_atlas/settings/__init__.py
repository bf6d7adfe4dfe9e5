"""What can be set: one class for each section of the configuration, the only place of a key.

A key's type, limits, default and description stand in its class alone. The configuration is checked by the classes, a
script's main() and its command line take them, and schemas/config.schema.json and config/README.md are written from
them. The modules of this package hold data and no computation: a step gets its settings as values, which Snakemake
tracks, so that code_digest leaves this package out.
"""
