#!/bin/bash
# A small agent at work: it tries to reach servers, with curl and with Python, and reports each
# attempt in one line. It knows nothing of clawd: no proxy, no variable, no library.
#
# Usage: ./agent.sh      makes every attempt of $attempts, in that order
#        ./agent.sh -    makes the attempts that are named on standard input, one a line
set -u
export LC_ALL=C
here=${0%/*}
curl=/usr/bin/curl
# Made by the demo: curl under another name, once unchanged, once with one byte changed, and once
# more unchanged, for later.
copy=$here/tools/fetch changed=$here/tools/fetch-changed later=$here/tools/fetch-later
# Made by the demo, too: env, which starts another program, and curl with some bytes more.
driver=$here/tools/driver tool=$here/tools/tool

attempts='curl python port address copy changed
          curl6 python6 address6
          mapped mapped-python mapped-port
          udp-connect udp-connect-port udp-send udp-send-address
          alone descendant pinned'

attempt() {
    case $1 in
    curl) fetch "$1" "$curl" 192.0.2.10 80 ;;
    python) dial "$1" get 192.0.2.10 80 ;;
    port) fetch "$1" "$curl" 192.0.2.10 8080 ;;
    address) fetch "$1" "$curl" 192.0.2.11 80 ;;
    copy) fetch "$1" "$copy" 192.0.2.10 80 ;;
    changed) fetch "$1" "$changed" 192.0.2.10 80 ;;
    later) fetch "$1" "$later" 192.0.2.10 80 ;;
    curl6) fetch "$1" "$curl" 2001:db8::10 80 ;;
    python6) dial "$1" get 2001:db8::10 80 ;;
    address6) fetch "$1" "$curl" 2001:db8::11 80 ;;
    mapped) fetch "$1" "$curl" ::ffff:192.0.2.10 80 ;;
    mapped-python) dial "$1" get ::ffff:192.0.2.10 80 ;;
    mapped-port) fetch "$1" "$curl" ::ffff:192.0.2.10 8080 ;;
    udp-connect) dial "$1" connect 192.0.2.10 7000 ;;
    udp-connect-port) dial "$1" connect 2001:db8::10 7000 ;;
    udp-send) dial "$1" send 192.0.2.10 7000 ;;
    udp-send-address) dial "$1" send 192.0.2.11 7000 ;;
    alone) fetch "$1" "$curl" 2001:db8::10 8080 ;;
    descendant) by=$driver fetch "$1" "$curl" 2001:db8::10 8080 ;;
    pinned) fetch "$1" "$tool" 2001:db8::10 8080 ;;
    *) echo "agent.sh: no attempt is called '$1'" >&2 && return 1 ;;
    esac
}

# fetch NAME PROGRAM ADDRESS PORT: gets a page with curl, or with a program that was curl; `by`
# names a program that starts it.
fetch() {
    local host=$3 output status errno=-
    case $3 in *:*) host=[$3] ;; esac
    output=$(${by:+"$by"} "$2" -q --globoff --silent --verbose --max-time 5 --stderr "$trace" \
        --write-out '%{http_code} %{time_total}' "http://$host:$4/small")
    status=$?
    # curl tells the error of connect(2) in words alone.
    case $(<"$trace") in
    *'Operation not permitted'*) errno=EPERM ;;
    *'Connection refused'*) errno=ECONNREFUSED ;;
    *'unreachable'*) errno=ENETUNREACH ;;
    esac
    # The page ends with a line break; what curl adds about it is the last line.
    local page=${output%$'\n'*} about=${output##*$'\n'}
    [[ $output == *$'\n'* ]] || page=
    local us=${about#* }
    us=$((10#${us/./}))
    printf 'attempt name=%s program=%s call=connect protocol=tcp address=%s port=%s ' "$1" "$2" "$3" "$4"
    printf 'exit=%s errno=%s us=%s http=%s answer=%s\n' "$status" "$errno" "$us" "${about%% *}" "${page// /_}"
}

# dial NAME WAY ADDRESS PORT: the same, and datagrams, with Python.
dial() {
    /usr/bin/python3 -I "$here/dial.py" "$@"
}

trace=$(mktemp) && trap 'rm -f "$trace"' EXIT || exit
if [[ ${1-} == - ]]; then
    while read -r name; do
        attempt "$name"
    done
else
    for name in $attempts; do
        attempt "$name"
    done
fi
