#!/usr/bin/env bash
# Install mmcv with compiled ops, which Mask2Former needs, in a virtual environment: `envs/mmcv_ops.sh PYTHON`.
#
# The wheel is built once per user, mmcv, torch, Python and machine, and cached in a separate folder: in pip's cache, the
# pure-Python wheel has the same name and version.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: envs/mmcv_ops.sh PYTHON}
mmcv=$(sed -n 's/^onedl-mmcv==//p' requirements-openmmlab.txt)
torch=$("$python" -c 'import torch; print(torch.__version__)')
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/freemask/mmcv-ops-$mmcv-torch$torch-$tag-$(uname -m)

wheel() { find "$cache" -maxdepth 1 -name "onedl_mmcv-$mmcv-*.whl" 2>/dev/null | head -n 1; }

check_compiler() {
    local header
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
    if ! command -v "${CXX:-c++}" >/dev/null || [ ! -e "$header" ]; then
        echo "error: mmcv's ops need a C++ compiler (${CXX:-c++}) and Python's headers ($header), and one is missing." >&2
        echo "       On Debian or Ubuntu: apt-get install g++ python3-dev. The demo (make demo) needs neither." >&2
        exit 1
    fi
}

build() {
    local started=$SECONDS
    mkdir -p "$cache"
    # Not a local variable: the trap runs after the function has returned.
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "mmcv $mmcv: compiling its ops, once for this user: about 35 CPU minutes (18 minutes on 2 cores)."
    echo "mmcv $mmcv: pip's output goes to $cache/build.log"
    if ! MMCV_WITH_OPS=1 "$python" -m pip wheel --no-build-isolation --no-deps --no-cache-dir --no-binary :all: \
        "onedl-mmcv==$mmcv" --wheel-dir "$work" >"$cache/build.log" 2>&1; then
        tail -n 40 "$cache/build.log" >&2
        echo "error: mmcv's ops did not compile; the whole output is in $cache/build.log" >&2
        exit 1
    fi
    # A name that ends in py3-none-any is a pure-Python wheel: the build found no torch or no compiler.
    if ! mv "$work"/onedl_mmcv-"$mmcv"-"$tag"-*.whl "$cache/"; then
        echo "error: the build made no compiled wheel; see $cache/build.log" >&2
        exit 1
    fi
    echo "mmcv $mmcv: compiled in $(((SECONDS - started) / 60)) minutes."
}

if "$python" -c 'import torch, mmcv._ext' 2>/dev/null; then
    echo "mmcv $mmcv: compiled ops are installed."
    exit 0
fi
if [ -z "$(wheel)" ]; then
    check_compiler
    build
fi
echo "mmcv $mmcv: installing $(wheel)"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall --no-index "$(wheel)"
if ! "$python" -c 'import torch, mmcv._ext'; then
    echo "error: the compiled wheel does not load here; delete $cache and run this again" >&2
    exit 1
fi
