#!/bin/sh
# Renders the mails of a demo into docs/images: light and dark, as on a phone and on a desk. Needs Chromium.
#   overnight demo && docs/screenshots.sh overnight-demo
# The digest of the operators is that of a new project with a made-up fortnight.
set -eu
outbox=${1:?the folder of a demo}/var/outbox
images=$(dirname "$0")/images
shoot() {  # file name width height scheme (0 dark, 1 light)
  profile=$(mktemp -d)
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile" \
    --blink-settings=preferredColorScheme="$5" --window-size="$3,$4" --screenshot="$images/$2.png" "file://$(realpath "$1")" 2>/dev/null
  rm -rf "$profile"
}
mail=$(grep -l "Ada Brandt" "$outbox"/daily_email/*/*.html | grep -v index | head -n 1)
site=$(mktemp -d)
overnight -q init "$site/site"
python "$(dirname "$0")/fortnight.py" "$site/site"
overnight -q --config "$site/site" run metrics_digest
digest=$(ls "$site"/site/var/outbox/metrics_digest/*/*.html | grep -v index | head -n 1)
for width in 375 800; do
  shoot "$mail" "daily_email-$width-light" "$width" 1000 1
  shoot "$mail" "daily_email-$width-dark" "$width" 1000 0
done
for width in 375 800; do
  shoot "$digest" "metrics_digest-$width-light" "$width" $((2080 - width / 2)) 1
  shoot "$digest" "metrics_digest-$width-dark" "$width" $((2080 - width / 2)) 0
done
rm -rf "$site"
