"""What programs of agents do with Python's library; prints what came of it as JSON."""

import asyncio
import json
import multiprocessing
import os
import sqlite3
import subprocess
import tempfile
import threading
from multiprocessing import shared_memory


def square(number):
    return number * number


def speak(queue):
    queue.put("from a child")


def store(name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[0] = 42
    memory.close()


def count(total):
    for _ in range(100):
        with total.get_lock():
            total.value += 1


def in_child(function, argument):
    child = multiprocessing.Process(target=function, args=(argument,))
    child.start()
    return child


def shared():
    memory = shared_memory.SharedMemory(create=True, size=4096)
    in_child(store, memory.name).join()
    value = memory.buf[0]
    memory.close()
    memory.unlink()
    return value


def queued():
    queue = multiprocessing.Queue()
    child = in_child(speak, queue)
    value = queue.get(timeout=300)
    child.join()
    return value


def locked():
    total = multiprocessing.Value("i", 0)
    children = [in_child(count, total) for _ in range(3)]
    for child in children:
        child.join()
    return total.value


def threaded():
    total = []
    threads = [threading.Thread(target=total.append, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(total)


async def looped():
    async def say(word):
        await asyncio.sleep(0.01)
        return word

    child = await asyncio.create_subprocess_exec("echo", "child", stdout=subprocess.PIPE)
    said, _ = await child.communicate()
    return [*await asyncio.gather(say("a"), say("b")), said.decode().strip()]


def stored():
    with sqlite3.connect("data.sqlite") as database:
        database.execute("pragma journal_mode = wal")
        database.execute("create table numbers (number integer, name text)")
        database.executemany("insert into numbers values (?, ?)", [(1, "one"), (2, "two")])
    return sqlite3.connect("data.sqlite").execute("select * from numbers").fetchall()


def temporary():
    with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryDirectory() as folder:
        file.write("text")
        return os.path.commonpath([file.name, folder])


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(square, range(5))
    result = {
        "subprocess": subprocess.run(["id", "-u"], capture_output=True, text=True).stdout.strip(),
        "pool": squares,
        "shared_memory": shared(),
        "queue": queued(),
        "lock_held_by_child": locked(),
        "threads": threaded(),
        "asyncio": asyncio.run(looped()),
        "sqlite": stored(),
        "temporary": temporary(),
    }
    print(json.dumps(result))
