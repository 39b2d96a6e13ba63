#!/usr/bin/env bash
# Runs once, as root, when the image of the autograder is built: Python, the packages, and rights.
set -euo pipefail

root=${AUTOGRADER_ROOT:-/autograder}
source=$root/source
minor=@MINOR@     # the Python that the packages below are pinned for
system="@SYSTEM@" # packages of the system, such as a compiler

say() { printf '== %s\n' "$*"; }

install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@"
}

if ! command -v "python$minor" >/dev/null; then
  say "installing Python $minor"
  # an older Ubuntu does not have it: then from the archive that builds it for all of them
  install "python$minor" "python$minor-venv" || {
    install software-properties-common
    add-apt-repository -y ppa:deadsnakes/ppa
    install "python$minor" "python$minor-venv"
  }
fi
if [[ -n $system ]]; then
  say "installing $system"
  # shellcheck disable=SC2086 # several words are several packages
  install $system
fi

say "installing the packages, each in the version that the assignment was tried with"
"python$minor" -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  --only-binary :all: -r "$source/requirements.txt"

say "rights"
# A student's process runs under a user's number without an account, so there is no user to make.
# It may enter the folder and run Python, and reads nothing that holds an answer.
chmod a+rx "$root"
chmod -R a+rX "$root/venv"
chmod -R go-rwx "$source"

say "trying it"
"$root/venv/bin/python" -I "$source/grade.py" --warm
