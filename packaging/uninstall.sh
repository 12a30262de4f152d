#!/bin/sh
# Takes away what install.sh installed. Workspaces stay where they are.
#
#   ./uninstall.sh               program, base model, link; the keys of your workspaces stay
#   ./uninstall.sh --with-keys   the keys too: the private side of every workspace can then be read by nobody
set -eu
[ -n "${HOME-}" ] || { echo "uninstall.sh: HOME is not set." >&2; exit 1; }
data=${XDG_DATA_HOME:-$HOME/.local/share}/localsynth
models=${LOCALSYNTH_MODELS:-$data/models}
config=${LOCALSYNTH_HOME:-${XDG_CONFIG_HOME:-$HOME/.config}/localsynth}
app=$data/app
case ${1-} in
  ""|--with-keys) ;;
  *) echo "Usage: ./uninstall.sh [--with-keys]" >&2; exit 1 ;;
esac

if [ -f "$app/models.txt" ]; then
  while IFS= read -r name; do rm -f "$models/$name"; done < "$app/models.txt"
fi
if [ "$(readlink "$HOME/.local/bin/localsynth" 2>/dev/null || true)" = "$app/bin/localsynth" ]; then
  rm -f "$HOME/.local/bin/localsynth"
fi
rm -rf "$app"
# Directories that hold nothing any more; others stay.
rmdir "$models" "$data" "${XDG_DATA_HOME:-$HOME/.local/share}" "$HOME/.local/bin" "$HOME/.local" 2>/dev/null || true

if [ "${1-}" = "--with-keys" ]; then
  rm -rf "$config"
  rmdir "$(dirname "$config")" 2>/dev/null || true
  echo "Removed, with the keys."
elif [ -e "$config" ]; then
  echo "Removed. The keys of your workspaces are still in $config (--with-keys removes them)."
else
  echo "Removed."
fi
