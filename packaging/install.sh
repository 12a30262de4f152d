#!/bin/sh
# Installs localsynth from this directory, for this user, without any network. Needs Python @PYTHON@ and nothing else; with
# --bundled-python, not even that.
#
#   ./install.sh [--key FINGERPRINT] [--bundled-python]
#
# Checks the signature (with openssl, where there is one) and the hash of every file before anything is installed. Writes to
#   ~/.local/share/localsynth     the program and the base model    ($XDG_DATA_HOME is respected)
#   ~/.local/bin/localsynth       a link to the program
# ./uninstall.sh takes all of it away again.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
fail() { printf 'install.sh: %s\n' "$1" >&2; exit 1; }

key= bundled=
while [ $# -gt 0 ]; do
  case $1 in
    --key) key=${2:?--key needs the fingerprint}; shift ;;
    --bundled-python) bundled=yes ;;
    *) fail "Usage: ./install.sh [--key FINGERPRINT] [--bundled-python]" ;;
  esac
  shift
done
[ -n "${HOME-}" ] || fail "HOME is not set."

python=
[ -n "$bundled" ] || for candidate in python@PYTHON@ python3 python; do
  if command -v "$candidate" >/dev/null 2>&1 &&
     [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "@PYTHON@" ]; then
    python=$(command -v "$candidate"); break
  fi
done
[ -n "$python$bundled" ] || fail "Python @PYTHON@ was not found, and the compiled parts in this bundle fit no other version.
Install it, or take the one in this bundle: ./install.sh --bundled-python${key:+ --key $key}"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo "no glibc")
if [ "$(uname -m)" != x86_64 ] || [ "${libc%% *}" != glibc ] ||
   [ "$(printf '%s\n' @GLIBC@ "${libc#glibc }" | sort -V | head -n 1)" != @GLIBC@ ]; then
  fail "This bundle was compiled for Linux on x86-64 with glibc @GLIBC@ or newer; here is $(uname -m), $libc.
Make one on a system as old as this: make bundle"
fi

echo "Checking the signature and every file ..."
fingerprint=$(sha256sum SHA256SUMS.pub | cut -d' ' -f1)
if command -v openssl >/dev/null 2>&1; then
  openssl pkeyutl -verify -pubin -inkey SHA256SUMS.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    fail "The signature over SHA256SUMS does not hold. Nothing was installed."
  echo "  signed by the key $fingerprint"
else
  [ -z "$key" ] || fail "openssl is missing, so the signature cannot be checked, as --key asks. Nothing was installed.
Install openssl, or leave --key out: then only the hashes are checked."
  echo "  openssl is missing: the signature was NOT checked, only the hashes"
fi
if [ -n "$key" ]; then
  [ "$key" = "$fingerprint" ] || fail "Signed by another key than the one you named. Nothing was installed."
fi
sha256sum --check --strict --quiet SHA256SUMS || fail "A file is not what SHA256SUMS says. Nothing was installed."
# pip takes what it finds: a file that nobody signed must not be there.
# Listed names come twice here, so what comes once is a file that is not listed.
unlisted=$({ cut -c 67- SHA256SUMS; cut -c 67- SHA256SUMS; find constraints.txt wheels model python ! -type d; } |
  LC_ALL=C sort | uniq -u)
[ -z "$unlisted" ] || fail "Not listed in SHA256SUMS: $unlisted. Nothing was installed."

data=${XDG_DATA_HOME:-$HOME/.local/share}/localsynth
models=${LOCALSYNTH_MODELS:-$data/models}
app=$data/app
[ ! -e "$app" ] || fail "localsynth is installed in $app already: run ./uninstall.sh first (workspaces and keys stay)."
mkdir -p "$data" "$models" "$HOME/.local/bin"
trap '[ -e "$app/installed" ] || rm -rf "$app"' EXIT

echo "Installing to $app ..."
if [ -n "$bundled" ]; then
  mkdir "$app"
  cp -R python "$app/python"
  python=$app/python/bin/python@PYTHON@
fi
"$python" -I -m venv --without-pip "$app"
pip=$(echo wheels/pip-*.whl)
"$app/bin/python" "$pip/pip" install --isolated --quiet --no-index --no-cache-dir --disable-pip-version-check \
  --no-compile --find-links wheels --require-hashes -r constraints.txt
for model in model/*; do cp "$model" "$models/"; done
cp -R docs "$app/docs"
cp LICENSE SHA256SUMS sbom.cdx.json uninstall.sh "$app/"
ls model > "$app/models.txt"
ln -sf "$app/bin/localsynth" "$HOME/.local/bin/localsynth"
touch "$app/installed"

echo
echo "Installed. The documentation: $app/docs/index.html"
case ":$PATH:" in
  *":$HOME/.local/bin:"*) name=localsynth ;;
  *) name="$HOME/.local/bin/localsynth" ;;
esac
echo "Next:"
echo "  $name doctor"
echo "  $name demo"
