set -u
echo "# pipes"
printf '%s\n' c a b | sort | tr '\n' ' '
echo
true | false | true
echo "statuses ${PIPESTATUS[*]}"

echo "# redirections"
echo one >file
echo two >>file
cat <file
{ echo out; echo err >&2; } >both 2>&1
cat both
exec 3>third
echo three >&3
exec 3>&-
cat third
: >empty
[ -s empty ] || echo empty
{ echo quiet >&2; } 2>/dev/null

echo "# here-documents"
name=world
cat <<END
hello $name
END
cat <<'END'
raw $name
END
tr a-z A-Z <<<string

echo "# process substitution"
paste -d+ <(seq 1 2) <(seq 3 4)
seq 3 > >(sed 's/^/line /' >lines)
until [ -s lines ] && [ "$(wc -l <lines)" -eq 3 ]; do sleep 0.02; done
cat lines

echo "# jobs"
set -m
sleep 1000 &
kill %1
wait %1 2>/dev/null
echo "killed $?"
(exit 4) &
wait $!
echo "child $?"
bash -c 'kill -STOP $$; exit 6' &
until jobs -s | grep -q Stopped; do sleep 0.02; done
echo stopped
bg %1 >/dev/null 2>&1
wait %1
echo "resumed $?"
set +m

echo "# traps"
trap 'echo term' TERM
kill -TERM $$
(
    trap 'echo leaving' EXIT
    exit 5
)
echo "subshell $?"
trap 'echo failed' ERR
false
trap - ERR

echo "# pipes with names, co-processes, temporary files"
mkfifo pipe
echo through >pipe &
cat pipe
coproc CAT { cat; }
echo echoed >&"${CAT[1]}"
read -r line <&"${CAT[0]}"
echo "$line"
temporary=$(mktemp)
case $temporary in /tmp/*) echo temporary ;; esac
rm "$temporary" pipe
[ -w ~ ] && echo "home is writable"
