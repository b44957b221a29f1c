#!/bin/sh
# An outside worker in plain shell: attaches to a forestage daemon, runs one task after the other, leaves when told.
#
#   scripts/outside-worker.sh NAME TYPE[,TYPE…] COMMAND [ARG…]
#
# COMMAND runs once for each task, in the task's work folder if it has one, with FORESTAGE_TASK, FORESTAGE_TYPE,
# FORESTAGE_ENTITY and FORESTAGE_WORKDIR in its environment, FORESTAGE_JSON with all there is to know of the task
# (its payload too), and the paths of its staged inputs as further arguments. Its exit code is the task's.
# Needs curl and nothing else.
#
# FORESTAGE_SOCKET names the socket (default /run/forestage/forestage.sock). Ctrl-C or SIGTERM ends the worker
# after the task that runs; a task is given back at once if the worker is killed, because its life line breaks.
set -eu

[ $# -ge 3 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
name=$1 types=$2
shift 2
socket=${FORESTAGE_SOCKET:-/run/forestage/forestage.sock}
url=http://forestage/v1/workers

ask() { # ask METHOD PATH [BODY]: the answer's body; fails if the daemon refuses
  curl --silent --show-error --fail-with-body --unix-socket "$socket" -X "$1" "$url$2" \
    ${3:+-H 'content-type: application/json' --data-binary "$3"}
}

order="{\"name\":\"$name\",\"types\":[\"$(printf %s "$types" | sed 's/,/","/g')\"]}"
session=$(ask POST "" "$order") || { printf '%s\n' "$session" >&2; exit 1; }
session=$(printf %s "$session" | sed 's/.*"session":\([0-9]*\).*/\1/')

# As long as this connection stands, the worker lives, however long a task takes.
curl --silent --no-buffer --unix-socket "$socket" "$url/$name/lifeline?session=$session" >/dev/null &
line=$!
stop=
leave() {
  kill "$line" 2>/dev/null || true
  ask DELETE "/$name?session=$session" >/dev/null 2>&1 || true
}
trap leave EXIT
trap 'stop=1' INT TERM

done='[]'
while [ -z "$stop" ]; do
  # What was done goes back and the next task comes, in one round trip.
  answer=$(ask POST "/$name/next" "{\"session\":$session,\"take\":1,\"wait_s\":10,\"done\":$done}") || {
    # 409: the lease was lost meanwhile, and somebody else has the task. All else ends the worker.
    case $answer in *'"conflict"'*) done='[]'; kill -0 "$line" 2>/dev/null || exit 1; continue ;; esac
    printf '%s\n' "$answer" >&2
    exit 1
  }
  done='[]'
  # Fields come in the order of the API's document, and quotes inside of values are escaped: what stands between
  # plain quotes is a name or a value.
  head=$(printf %s "$answer" | sed -n 's/^{"tasks":\[{"id":\([0-9]*\),"token":"\([0-9.]*\)","type":"\([^"]*\)".*/\1 \2 \3/p')
  [ -n "$head" ] || continue
  read -r id token type <<END
$head
END
  code=0
  (
    FORESTAGE_TASK=$id FORESTAGE_TYPE=$type FORESTAGE_JSON=$answer
    FORESTAGE_ENTITY=$(printf %s "$answer" | sed -n 's/^[^}]*"type":"[^"]*","entity":"\([^"]*\)".*/\1/p')
    FORESTAGE_WORKDIR=$(printf %s "$answer" | sed -n 's/.*"workdir":"\([^"]*\)"}\].*/\1/p')
    export FORESTAGE_TASK FORESTAGE_TYPE FORESTAGE_ENTITY FORESTAGE_WORKDIR FORESTAGE_JSON
    [ -z "$FORESTAGE_WORKDIR" ] || cd "$FORESTAGE_WORKDIR"
    # Paths of work folders hold no white space, so splitting at lines is splitting at inputs.
    # shellcheck disable=SC2046
    exec "$@" $(printf %s "$answer" | grep -o '"path":"[^"]*"' | cut -d'"' -f4)
  ) || code=$?
  done="[{\"id\":$id,\"token\":\"$token\",\"exit_code\":$code}]"
done
# The last one goes back too, and nothing more is taken.
[ "$done" = '[]' ] || ask POST "/$name/next" "{\"session\":$session,\"take\":0,\"done\":$done}" >/dev/null
