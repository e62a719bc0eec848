#!/bin/sh
# Checks that `make` runs before it downloads anything. If something is missing, prints one line and exits with 1.
# usage: preflight.sh <python> [1 if llama.cpp is to be built for CUDA]
python=$1 cuda=${2:-}
fail() { echo "Gradus: $1" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 ||
  fail "$python not found; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$($python --version 2>&1) is too old; Python 3.11 or newer is needed: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info >= (3, 15))' ||
  fail "$($python --version 2>&1) is too new for the pinned packages; use Python 3.11 to 3.14: make PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' ||
  fail "$python has no headers (Python.h), which some packages are built with; on Debian or Ubuntu: apt-get install python3-dev"
command -v git >/dev/null 2>&1 || fail "git not found; on Debian or Ubuntu: apt-get install git"
compiler=${CXX:-c++}
command -v "$compiler" >/dev/null 2>&1 ||
  fail "no C++ compiler ($compiler); it is needed to build llama.cpp; on Debian or Ubuntu: apt-get install g++"
[ "$cuda" != 1 ] || command -v "${CUDACXX:-nvcc}" >/dev/null 2>&1 ||
  fail "${CUDACXX:-nvcc} not found; make CUDA=1 needs NVIDIA's CUDA toolkit: install it, or put it on the path: PATH=/usr/local/cuda/bin:\$PATH (make CUDA=0 does without)"
needed=8000000 less=
if [ "$cuda" = 1 ]; then
  needed=14000000
elif [ "$(uname 2>/dev/null)" = Linux ] && ! [ -d "$(echo .venv/lib/python*/site-packages/torch)" ]; then
  # pip takes torch's CUDA build, unless it was told of another place: 3 GB to download, which its cache keeps, and 4 GB
  # more than a CPU build once it is installed; pip's own files are read, since Debian's python3 has no pip to ask
  files="/etc/pip.conf $HOME/.pip/pip.conf $HOME/.config/pip/pip.conf ${PIP_CONFIG_FILE:-}"
  case "${PIP_EXTRA_INDEX_URL:+extra-index-url}${PIP_FIND_LINKS:+find-links}$(cat $files 2>/dev/null)" in
    *extra-index-url* | *find-links*) # of wheels that were collected with CUDA's there is nothing to download
      ! ls "${PIP_FIND_LINKS:-}"/nvidia_* >/dev/null 2>&1 || needed=12000000
      ;;
    *) needed=14000000 less=" (8 GB with torch's CPU build: docs/gpu.md)" ;;
  esac
fi
needed=${GRADUS_DISK_KB:-$needed}
free=$(df -Pk . | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$needed" ] ||
  fail "$((free / 1000000)) GB free in $(pwd), $((needed / 1000000)) GB needed$less; free some space, or clone elsewhere"
