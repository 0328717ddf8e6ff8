#!/usr/bin/env bash
# Installs what doppel needs from Debian 12's packages. Idempotent: installed packages are not touched, and with nothing
# missing the package lists are not even read.
#   deploy/install.sh            all that builds, tests and the glyphs example need
#   deploy/install.sh --build    the build alone
set -euo pipefail

build=(
  g++ cmake ninja-build ccache mold pkg-config git ca-certificates python3
  libgrpc++-dev libprotobuf-dev libprotoc-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev libssl-dev
  libfaiss-dev libopenblas0-pthread libopenblas-pthread-dev
  libtorch-dev libgflags-dev libgoogle-glog-dev
  libopencv-dev libdeflate-dev libjpeg62-turbo-dev
  nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libspdlog-dev prometheus-cpp-dev libcpp-httplib-dev
  libarchive-dev libxxhash-dev libfreetype-dev libgtest-dev libgmock-dev
)
checks=(
  clang clang-tidy clang-format libclang-rt-14-dev openssl
  python3-grpcio python3-protobuf python3-numpy python3-torch python3-pil python3-sklearn
)
glyphs=(
  unicode-data
  fonts-hanazono fonts-babelstone-han fonts-cns11643-kai fonts-cns11643-sung fonts-ipamj-mincho fonts-noto-cjk
  fonts-wqy-zenhei fonts-wqy-microhei fonts-arphic-ukai fonts-arphic-uming fonts-lxgw-wenkai fonts-unifont
  fonts-nanum fonts-unfonts-core fonts-baekmuk
)

case "${1:-}" in
  --build) packages=("${build[@]}") ;;
  "") packages=("${build[@]}" "${checks[@]}" "${glyphs[@]}") ;;
  *) echo "usage: deploy/install.sh [--build]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install: all ${#packages[@]} packages are there"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install: ${#missing[@]} packages are missing and neither root nor sudo is to be had: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "install: ${#missing[@]} of ${#packages[@]} packages are missing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install: done"
