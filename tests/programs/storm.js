// Worker threads, asynchronous file operations of the thread pool, programs, signals and watched files.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { execFile, execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const { once } = require('node:events');
const { promisify } = require('node:util');

if (!isMainThread) {
  let right = 0;
  for (let i = 0; i < 200; i++) {
    if (fs.readFileSync('/etc/debian_version', 'utf8').startsWith('12')) right++;
    if (!fs.existsSync(`/no/such/${workerData}/${i}`)) right++;
  }
  parentPort.postMessage(right);
} else {
  main().catch((error) => {
    console.log('failed', error);
    process.exit(1);
  });
}

async function main() {
  const workers = Array.from({ length: 6 }, (_, n) => once(new Worker(__filename, { workerData: n }), 'message'));
  console.log('workers', (await Promise.all(workers)).reduce((sum, [right]) => sum + right, 0));
  const reads = Array.from({ length: 500 }, (_, n) =>
    n % 2 ? fs.promises.readFile('/etc/debian_version') : fs.promises.stat('/no/such').catch((error) => error.code));
  const results = await Promise.all(reads);
  console.log('asynchronous', results.filter((r) => r === 'ENOENT').length, results.filter((r) => Buffer.isBuffer(r) && r.equals(results[1])).length);
  const children = Array.from({ length: 20 }, (_, n) => promisify(execFile)('/bin/echo', [String(n)]));
  console.log('children', (await Promise.all(children)).reduce((sum, child) => sum + Number(child.stdout), 0));
  console.log('synchronous', execFileSync('/bin/sh', ['-c', 'ls /etc/debian_version']).toString().trim());
  let signals = 0;
  process.on('SIGUSR2', () => signals++);
  process.kill(process.pid, 'SIGUSR2');
  while (signals === 0) await new Promise((done) => setTimeout(done, 1));
  console.log('signal', signals);
  const child = spawn('/bin/sleep', ['100']);
  child.kill('SIGTERM');
  console.log('ended by', (await once(child, 'exit'))[1]);
  const seen = once(fs.watch('/tmp'), 'change');
  fs.writeFileSync('/tmp/watched', 'x');
  console.log('watched', (await seen)[1]);
  const server = net.createServer((socket) => socket.end('through a socket')).listen('/tmp/node-socket');
  await once(server, 'listening');
  const [text] = await once(net.connect('/tmp/node-socket'), 'data');
  console.log('socket', text.toString());
  console.log('executable', process.execPath, process.argv[1], process.cwd());
  process.exit(5);
}
