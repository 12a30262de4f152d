#!/bin/sh
# Installs localsynth from this directory, for this user, without any network. Needs Python @PYTHON@ and nothing else.
#
#   ./install.sh [--key FINGERPRINT]
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

key=
case ${1-} in
  --key) key=${2:?--key needs the fingerprint} ;;
  "") ;;
  *) fail "Usage: ./install.sh [--key FINGERPRINT]" ;;
esac
[ -n "${HOME-}" ] || fail "HOME is not set."

python=
for candidate in python@PYTHON@ python3 python; do
  if command -v "$candidate" >/dev/null 2>&1 &&
     [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "@PYTHON@" ]; then
    python=$(command -v "$candidate"); break
  fi
done
[ -n "$python" ] || fail "Python @PYTHON@ was not found. The compiled parts in this bundle fit no other version."
"$python" - <<'CHECK' || exit 1
import platform, sys
have, need = platform.libc_ver(), "@GLIBC@"
number = lambda text: tuple(int(part) for part in text.split("."))
if platform.machine() != "x86_64" or have[0] != "glibc" or number(have[1]) < number(need):
    sys.exit(f"install.sh: This bundle was compiled for Linux on x86-64 with glibc {need} or newer; here is "
             f"{platform.machine()}, {' '.join(have) or 'no glibc'}. Make one on a system as old as this: make bundle")
CHECK

echo "Checking the signature and every file ..."
fingerprint=$(sha256sum SHA256SUMS.pub | cut -d' ' -f1)
if command -v openssl >/dev/null 2>&1; then
  openssl pkeyutl -verify -pubin -inkey SHA256SUMS.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    fail "The signature over SHA256SUMS does not hold. Nothing was installed."
  echo "  signed by the key $fingerprint"
else
  [ -z "$key" ] || fail "openssl is missing, so the signature cannot be checked, as --key asks."
  echo "  openssl is missing: the signature was NOT checked, only the hashes"
fi
if [ -n "$key" ]; then
  [ "$key" = "$fingerprint" ] || fail "Signed by another key than the one you named. Nothing was installed."
fi
sha256sum --check --strict --quiet SHA256SUMS || fail "A file is not what SHA256SUMS says. Nothing was installed."
# pip takes what it finds: a file that nobody signed must not be there.
for file in constraints.txt wheels/* model/*; do
  grep -qF "  $file" SHA256SUMS || fail "$file is not listed in SHA256SUMS. Nothing was installed."
done

data=${XDG_DATA_HOME:-$HOME/.local/share}/localsynth
models=${LOCALSYNTH_MODELS:-$data/models}
app=$data/app
[ ! -e "$app" ] || fail "localsynth is installed in $app already: run ./uninstall.sh first (workspaces and keys stay)."
mkdir -p "$data" "$models" "$HOME/.local/bin"
trap '[ -e "$app/installed" ] || rm -rf "$app"' EXIT

echo "Installing to $app ..."
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
