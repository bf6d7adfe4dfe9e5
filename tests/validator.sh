#!/usr/bin/env bash
# Print the path of the W3C's validator of HTML, which needs Java; where it is not here yet, get both.
set -euo pipefail
version=26.9.27
jar=${XDG_CACHE_HOME:-$HOME/.cache}/weight-atlas/vnu-$version.jar
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
lacking=()
command -v java > /dev/null || lacking+=(default-jre-headless)
[ -f "$jar" ] || command -v npm > /dev/null || lacking+=(npm)
if [ ${#lacking[@]} -gt 0 ]; then
    as_root apt-get update -qq >&2
    as_root apt-get install -y -qq --no-install-recommends "${lacking[@]}" >&2
fi
if [ ! -f "$jar" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    (cd "$folder" && npm pack --silent "vnu-jar@$version" >&2 && tar -xf "vnu-jar-$version.tgz")
    mkdir -p "$(dirname "$jar")"
    mv "$(find "$folder/package" -name vnu.jar)" "$jar"
fi
echo "$jar"
