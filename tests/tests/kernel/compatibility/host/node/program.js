// What programs of agents do with Node's library; prints what came of it as JSON.
'use strict';

const { execFileSync, fork } = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function worker() {
  const shared = new Int32Array(new SharedArrayBuffer(4));
  return new Promise((resolve, reject) => {
    const thread = new Worker(__filename, { workerData: shared });
    thread.on('error', reject);
    thread.on('message', (sum) => resolve({ sum, shared: Atomics.load(shared, 0) }));
  });
}

function forked() {
  return new Promise((resolve, reject) => {
    const child = fork(__filename, ['child']);
    child.on('error', reject);
    child.on('message', resolve);
  });
}

function watched() {
  return new Promise((resolve, reject) => {
    const watcher = fs.watch('.', (_event, name) => {
      if (name !== 'watched.txt') return;
      watcher.close();
      clearInterval(writing);
      resolve(name);
    });
    watcher.on('error', reject);
    const writing = setInterval(() => fs.writeFileSync('watched.txt', 'text'), 20);
  });
}

function fetched(url) {
  return new Promise((resolve, reject) => {
    http
      .get(url, (answer) => {
        let text = '';
        answer.on('data', (part) => (text += part));
        answer.on('end', () => resolve(text.trim()));
      })
      .on('error', reject);
  });
}

async function main(url) {
  const { sum, shared } = await worker();
  const packed = zlib.gzipSync('text'.repeat(1000));
  const result = {
    spawned: execFileSync('id', ['-u'], { encoding: 'utf8' }).trim(),
    forked: await forked(),
    worker: sum,
    shared,
    watched: await watched(),
    compressed: zlib.gunzipSync(packed).toString() === 'text'.repeat(1000),
    temporary: os.tmpdir(),
    fetched: await fetched(url),
  };
  console.log(JSON.stringify(result));
}

if (!isMainThread) {
  Atomics.store(workerData, 0, 42);
  parentPort.postMessage([...Array(100).keys()].reduce((sum, number) => sum + number));
} else if (process.argv[2] === 'child') {
  process.send('from a child', () => process.exit());
} else {
  main(process.argv[2]).catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
}
