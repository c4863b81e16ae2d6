"""B3: the content of a listed program, executed from where no name vouches for it.

Argument: {"do": how, "program": what is copied, "path": the copy's, "run": [argv]}. How:
  named          a copy under `path`, executed by that name
  descriptor     the same, executed by its descriptor alone (execveat with AT_EMPTY_PATH)
  memfd          a file of memfd_create
  memfd_proc     the same, by its name below /proc/self/fd
  tmpfile        a file of O_TMPFILE beside `path`
  deleted        a copy under `path`, unlinked before its descriptor is executed
  deleted_proc   the same, by its name below /proc/self/fd
  replaced       as `named`, but over what `path` holds already
  there          what `path` holds already
"""
import errno
import json
import os
import sys

ask = json.loads(sys.argv[1])


def copy_to(file):
    with open(ask["program"], "rb") as source:
        while block := source.read(1 << 20):
            os.write(file, block)
    os.fchmod(file, 0o755)


def read_only(file):
    """The same file, with nobody left who has it open for writing."""
    again = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
    os.close(file)
    return again


def copy():
    # Another file under the name where there is one already.
    made = ask["path"] + ".new"
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    copy_to(file)
    os.close(file)
    os.rename(made, ask["path"])
    return os.open(ask["path"], os.O_RDONLY)


def memfd():
    file = os.memfd_create("copy", 0)
    copy_to(file)
    return read_only(file)


def tmpfile():
    file = os.open(os.path.dirname(ask["path"]), os.O_TMPFILE | os.O_RDWR, 0o755)
    copy_to(file)
    return read_only(file)


def deleted():
    file = copy()
    os.unlink(ask["path"])
    return file


def by_proc(file):
    return f"/proc/self/fd/{file}"


def there():
    return ask["path"]


def named():
    os.close(copy())
    return ask["path"]


WAYS = {
    "named": named,
    "descriptor": copy,
    "memfd": memfd,
    "memfd_proc": lambda: by_proc(memfd()),
    "tmpfile": tmpfile,
    "deleted": deleted,
    "deleted_proc": lambda: by_proc(deleted()),
    "replaced": named,
    "there": there,
}


def execute(what):
    """Executes it in a child and tells what became of the exec, or of the program."""
    out_reader, out_writer = os.pipe()
    error_reader, error_writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(out_writer, 1)
            os.execve(what, ask["run"], dict(os.environ))
        except OSError as error:
            os.write(error_writer, str(error.errno).encode())
        os._exit(126)
    os.close(out_writer)
    os.close(error_writer)
    with os.fdopen(out_reader) as pipe:
        out = pipe.read()
    with os.fdopen(error_reader) as pipe:
        failed = pipe.read()
    _, status = os.waitpid(child, 0)
    if failed:
        return {"errno": int(failed), "name": errno.errorcode.get(int(failed))}
    return {"code": os.waitstatus_to_exitcode(status), "out": out}


try:
    what = WAYS[ask["do"]]()
except OSError as error:
    print(json.dumps({"step": "prepare", "errno": error.errno, "name": errno.errorcode.get(error.errno)}))
    sys.exit(0)
print(json.dumps({"step": "prepare", "what": str(what)}))
print(json.dumps({"step": "exec", **execute(what)}))
