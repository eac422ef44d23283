#!/bin/sh
# Checks licences, sources, bans and known vulnerabilities of the crates that are linked in (deny.toml).
set -eu
if ! cargo deny --version >/dev/null 2>&1; then
  # Elsewhere, since this folder's .cargo/config.toml is about this program. Unoptimised: compiling is what takes time.
  (cd / && cargo install --locked --debug cargo-deny)
fi
cargo deny --log-level error check --hide-inclusion-graph licenses bans sources
if cargo deny --log-level off fetch db 2>/dev/null; then
  cargo deny --log-level error check --disable-fetch --hide-inclusion-graph advisories
else
  echo "skipped: known vulnerabilities, since the advisory database cannot be fetched" >&2
fi
