#!/bin/bash
# Makes configure and what it needs, from a git checkout. A release tarball has them already.
set -eu
cd "$(dirname "$0")"
exec autoreconf --install --force
