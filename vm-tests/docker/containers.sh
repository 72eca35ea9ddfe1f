# Starts nginx, which serves 1 MiB that was made here, and a box of tools. Prints the addresses of both and the MiB's sum.
set -eu
umask 022
export DOCKER_CONFIG=/run/nodelith-lab/docker
pages=/run/nodelith-lab/pages
if [ ! -e "$pages" ]; then
    mkdir -p "$pages"
    head -c 1048576 /dev/urandom >"$pages/bulk"
    docker run --detach --name web --read-only --tmpfs /tmp --volume "$pages:/usr/share/nginx/html:ro" nodelith.dev/nginx:1 >&2
    docker run --detach --name box nodelith.dev/toolbox:1 >&2
fi
address() { docker inspect --format '{{.NetworkSettings.IPAddress}}' "$1"; }
echo "$(address web) $(address box) $(sha256sum <"$pages/bulk" | cut -d ' ' -f 1)"
