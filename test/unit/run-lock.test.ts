// The lock of a run folder: a live owner keeps it, a dead one is replaced, and one that has lost it writes nothing more.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { thisOwner } from '../../src/run/lock-owner.js';
import { isLocked, lockRun } from '../../src/run/run-lock.js';
import { root, typescript } from '../support/native.js';
import { temporaryFolder } from '../support/trainer.js';

// As earlier versions of groupgrad wrote them.
const dead = JSON.stringify({ pid: 2 ** 30, host: hostname(), started: null });
const alive = JSON.stringify({ pid: process.ppid, host: hostname(), started: null });

const own = thisOwner('a token', 5000);

/** A lock file, last written `seconds` ago by the clock of the file system. */
function writeLock(folder: string, lock: object | string, seconds = 0): void {
  const path = join(folder, 'lock.json');
  fs.writeFileSync(path, typeof lock === 'string' ? lock : JSON.stringify(lock));
  const written = fs.statSync(path).mtimeMs / 1000 - seconds;
  fs.utimesSync(path, written, written);
}

/** A folder with a lock that reads as `before` until it has been read; by then a rival has replaced it with its own. */
function contested(t: TestContext, before: string): string {
  const folder = temporaryFolder(t);
  const path = join(folder, 'lock.json');
  fs.writeFileSync(path, before);
  const open = fs.openSync;
  let reads = 0;
  t.mock.method(fs, 'openSync', (...args: Parameters<typeof open>) => {
    if (args[0] === path && args[1] === 'r' && reads++ === 1) {
      fs.writeFileSync(`${path}-rival`, alive);
      fs.renameSync(`${path}-rival`, path);
    }
    return open(...args);
  });
  return folder;
}

for (const [what, before] of Object.entries({
  'that the other has just taken over from a dead process': dead,
  'that the other has created and not written yet': '',
})) {
  test(`of two processes that take a lock at once, one does not get it: one ${what}`, (t) => {
    const folder = contested(t, before);
    assert.throws(() => lockRun(folder), new RegExp(`process ${process.ppid} on .* is training in this folder`));
    t.mock.restoreAll();
    assert.deepEqual(fs.readdirSync(folder), ['lock.json']);
    assert.equal(fs.readFileSync(join(folder, 'lock.json'), 'utf8'), alive);
  });
}

test('an incomplete lock, as after a power cut, is taken over, and so is one of a dead process', (t) => {
  const folder = temporaryFolder(t);
  for (const left of ['', '{"pid":', '{}', 'null', '{"pid":0,"host":"x"}', dead]) {
    writeLock(folder, left, 2);
    lockRun(folder).release();
    assert.deepEqual(fs.readdirSync(folder), []);
  }
});

test('releasing a lock leaves that of another owner alone, and a missing folder is not an error', (t) => {
  const folder = temporaryFolder(t);
  const lock = lockRun(folder);
  writeLock(folder, alive);
  lock.release();
  assert.deepEqual(fs.readdirSync(folder), ['lock.json']);
  fs.rmSync(join(folder, 'lock.json'));
  lock.release();
  const other = lockRun(folder);
  fs.rmSync(folder, { recursive: true });
  other.release();
});

describe('a process of this namespace', () => {
  test('is identified by its id and start time', (t) => {
    const folder = temporaryFolder(t);
    // No heartbeat for an hour: like a process that was suspended, or whose machine slept.
    writeLock(folder, own, 3600);
    assert.throws(
      () => lockRun(folder),
      /is training in this folder; its last heartbeat was 3600 s ago\. If it is gone/,
    );
    // The id now belongs to another process.
    writeLock(folder, { ...own, started: '1' });
    lockRun(folder).release();
    writeLock(folder, { ...own, pid: 2 ** 30 });
    lockRun(folder).release();
  });

  test('without a known start time is judged by its heartbeat', (t) => {
    const folder = temporaryFolder(t);
    writeLock(folder, { ...own, started: null }, 50);
    assert.equal(isLocked(folder), true);
    assert.throws(() => lockRun(folder), /its last heartbeat was 50 s ago/);
    writeLock(folder, { ...own, started: null }, 61);
    assert.equal(isLocked(folder), false);
    lockRun(folder).release();
  });

  test('that has ended but was not waited for holds no lock', async (t) => {
    if (process.platform !== 'linux') return t.skip('no /proc');
    const folder = temporaryFolder(t);
    // Its parent does not wait for it: a zombie.
    const script = 'sleep 0.5 & echo $!; exec sleep 60';
    const shell = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    t.after(() => shell.kill('SIGKILL'));
    const pid = Number(await new Promise((resolve) => shell.stdout.once('data', resolve)));
    const stat = () => fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    while (stat()[0] !== 'Z') await wait(10);
    writeLock(folder, { ...own, pid, started: stat()[19] });
    lockRun(folder).release();
  });
});

describe('a process that is not visible from here', () => {
  const elsewhere: Record<string, [change: object, place: string]> = {
    'of another machine': [{ host: 'elsewhere', boot: 'another' }, 'another machine'],
    'of another boot': [{ boot: 'another' }, 'another boot of that machine, or another machine of that name'],
    'of another namespace': [{ pidNamespace: 'pid:[1]' }, 'another container of this machine'],
    'of a namespace that is not known': [{ pidNamespace: null }, 'another container of this machine'],
  };
  for (const [which, [change, place]] of Object.entries(elsewhere)) {
    test(`${which} is alive while it has a heartbeat, whatever its id is here`, (t) => {
      const folder = temporaryFolder(t);
      const lock = { ...own, ...change, pid: 2 ** 30, since: '2026-01-02T03:04:05.678Z' };
      const message =
        `${folder}: process ${lock.pid} on ${lock.host ?? hostname()} (${place}), since 2026-01-02T03:04:05.678Z, is training in ` +
        'this folder; its last heartbeat was 55 s ago, its lock expires 60 s after the last one. If it is gone or should stop, ' +
        'take the folder over with --take-over (takeOver: true in code); it then stops before its next write';
      writeLock(folder, lock, 55);
      assert.throws(() => lockRun(folder), { message });
      // At the interval that its lock states.
      writeLock(folder, { ...lock, heartbeat: 1000 }, 11);
      assert.throws(() => lockRun(folder), /its lock expires 12 s after the last one/);
      for (const gone of [{ ...lock, heartbeat: 1000 }, lock]) {
        writeLock(folder, gone, 61);
        lockRun(folder).release();
        assert.deepEqual(fs.readdirSync(folder), []);
      }
    });
  }

  test('is judged by the clock of the file system, not by that of this machine', (t) => {
    const folder = temporaryFolder(t);
    const lock = { ...own, host: 'elsewhere', boot: 'another' };
    t.mock.method(Date, 'now', () => 0);
    const past = Date.UTC(1999, 0);
    // This file system's timestamps are an hour and some decades behind the clock of this machine.
    const stat = fs.fstatSync;
    t.mock.method(fs, 'fstatSync', (file: number) => ({ ...stat(file), mtimeMs: stat(file).mtimeMs - past }));
    writeLock(folder, lock, 30);
    assert.throws(() => lockRun(folder), /heartbeat was 30 s ago/);
    writeLock(folder, lock, 90);
    lockRun(folder).release();
  });

  test('of an earlier version keeps the lock, since it has no heartbeat, until it is taken over', (t) => {
    const folder = temporaryFolder(t);
    for (const lock of [
      { pid: 7, host: 'elsewhere', started: null },
      { pid: 7, host: 'elsewhere', started: 'boot 123' },
      // A container of this machine, recognised by the boot id.
      { pid: 2 ** 30, host: 'elsewhere', started: `${own.boot} 123` },
    ]) {
      writeLock(folder, lock, 3600);
      assert.throws(
        () => lockRun(folder),
        /is training in this folder; its lock is from an earlier version without a heartbeat, .*--take-over/,
      );
      lockRun(folder, { takeOver: true }).release();
      assert.deepEqual(fs.readdirSync(folder), []);
    }
  });

  test('of an earlier version on this machine is identified by its boot id and start time', (t) => {
    if (own.boot === null) return t.skip('no boot id');
    const folder = temporaryFolder(t);
    writeLock(folder, { pid: process.pid, host: hostname(), started: `${own.boot} ${own.started}` }, 3600);
    assert.throws(() => lockRun(folder), /is training in this folder/);
    for (const started of [`${own.boot} 1`, `another ${own.started}`]) {
      writeLock(folder, { pid: process.pid, host: hostname(), started });
      lockRun(folder).release();
    }
  });
});

describe('a lock that is taken over', () => {
  test('is lost to its first owner, which is informed of the new one and leaves the lock alone', (t) => {
    const folder = temporaryFolder(t);
    const first = lockRun(folder);
    first.confirm();
    assert.throws(() => lockRun(folder), /--take-over/);
    const second = lockRun(folder, { takeOver: true });
    assert.deepEqual([first.isHeld, second.isHeld], [false, true]);
    second.confirm();
    assert.throws(
      () => first.confirm(),
      new RegExp(
        `^Error: ${folder}: this process has lost the folder and writes nothing more to it: process ${process.pid} on .*, ` +
          'since .*, is training in this folder now$',
      ),
    );
    first.release();
    second.confirm();
    second.release();
    assert.deepEqual(fs.readdirSync(folder), []);
  });

  test('and released again, or removed by hand, is lost to its owner', (t) => {
    const folder = temporaryFolder(t);
    const lock = lockRun(folder);
    lockRun(folder, { takeOver: true }).release();
    assert.throws(() => lock.confirm(), /writes nothing more to it: its lock, .*lock\.json, was removed$/);
    assert.equal(lock.isHeld, false);
  });

  test('and whose folder was removed, is taken again by its owner, unless another was faster', (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'lock.json');
    const lock = lockRun(folder);
    fs.rmSync(folder, { recursive: true });
    assert.throws(() => lock.confirm(), /was removed$/);
    lock.retake();
    lock.confirm();
    assert.throws(() => lockRun(folder), new RegExp(`process ${process.pid} on .* is training in this folder`));
    fs.rmSync(path);
    const other = lockRun(folder);
    for (const check of [lock.confirm, lock.retake]) assert.throws(check, /is training in this folder now$/);
    lock.release();
    other.release();
    fs.writeFileSync(path, '');
    assert.throws(() => other.confirm(), /writes nothing more to it: its lock, .*lock\.json, was overwritten$/);
  });

  test('goes to one of many that want it at once', { timeout: 60_000 }, async (t) => {
    const folder = temporaryFolder(t);
    const start = join(temporaryFolder(t), 'start');
    writeLock(folder, dead);
    const children = Array.from({ length: 6 }, () => locker(folder, start));
    await Promise.all(children.map(({ said }) => said('ready')));
    fs.writeFileSync(start, '');
    const answers = await Promise.all(children.map(({ answer }) => answer));
    assert.equal(answers.filter((answer) => answer === 'locked').length, 1, answers.join('\n'));
    for (const answer of answers) assert.match(answer, /^locked$|is training in this folder/);
    assert.deepEqual(
      fs.readdirSync(folder).filter((name) => name !== 'lock.json'),
      [],
    );
    for (const { child } of children) child.kill('SIGKILL');
  });

  test('is replaced even if a process died while replacing it', (t) => {
    const folder = temporaryFolder(t);
    writeLock(folder, dead);
    const lock = lockRun(folder, { takeOver: true });
    lock.release();
    // Its right to replace the dead lock, under the name of such a right.
    writeLock(folder, dead);
    let right: string | undefined;
    const write = fs.writeFileSync;
    t.mock.method(fs, 'writeFileSync', (...args: Parameters<typeof write>) => {
      write(...args);
      if (right !== undefined || !/lock\.json\.[0-9a-f]{16}$/.test(String(args[0]))) return;
      right = String(args[0]);
      throw new Error('killed');
    });
    assert.throws(() => lockRun(folder), /killed/);
    t.mock.restoreAll();
    fs.writeFileSync(right!, dead);
    lockRun(folder).release();
    assert.deepEqual(fs.readdirSync(folder), []);
  });
});

test('leftovers of taking a lock are removed when they are old', (t) => {
  const folder = temporaryFolder(t);
  const [old, fresh] = ['lock.json.aaaa', 'lock.json.bbbb'].map((name) => join(folder, name));
  for (const path of [old, fresh]) fs.writeFileSync(path, '');
  fs.utimesSync(old, 1e9, 1e9);
  const lock = lockRun(folder);
  assert.deepEqual(fs.readdirSync(folder), ['lock.json', 'lock.json.bbbb']);
  lock.release();
});

describe('the heartbeat', () => {
  const written = (folder: string) => fs.statSync(join(folder, 'lock.json')).mtimeMs;

  test('continues while the main thread is busy, and ends with the lock', async (t) => {
    const folder = temporaryFolder(t);
    const lock = lockRun(folder, { heartbeat: 50 });
    const text = fs.readFileSync(join(folder, 'lock.json'), 'utf8');
    const first = written(folder);
    // Like a long step: no turn of the event loop.
    const began = performance.now();
    while (written(folder) - first < 300) {
      if (performance.now() - began > 20_000) assert.fail('no heartbeat within 20 s');
    }
    assert.equal(fs.readFileSync(join(folder, 'lock.json'), 'utf8'), text);
    lock.confirm();
    lock.release();
    writeLock(folder, dead, 5);
    const after = written(folder);
    await wait(300);
    assert.equal(written(folder), after);
  });

  test('does not renew the lock of another owner', async (t) => {
    const folder = temporaryFolder(t);
    const lock = lockRun(folder, { heartbeat: 20 });
    await wait(200);
    writeLock(folder, { ...own, host: 'elsewhere' }, 30);
    const before = written(folder);
    await wait(300);
    assert.equal(written(folder), before);
    lock.release();
  });

  test('does not keep the process alive', (t) => {
    const folder = temporaryFolder(t);
    const script = `import { lockRun } from './src/run/run-lock.ts'; lockRun(${JSON.stringify(folder)});`;
    const args = [...typescript, '--input-type=module', '-e', script];
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: 30_000 });
    assert.equal(status, 0, stderr);
    // Dead by now.
    lockRun(folder).release();
  });
});

interface Locker {
  child: ChildProcess;
  said: (word: string) => Promise<void>;
  /** `locked`, or why not. */
  answer: Promise<string>;
}

/** A process that locks a folder once a file `start` exists, and keeps it. `wrapper`: the command that starts it. */
function locker(folder: string, start: string, wrapper: readonly string[] = []): Locker {
  const program = [process.execPath, ...typescript, join(root, 'test', 'support', 'locker.ts'), folder, start];
  const [command, ...args] = [...wrapper, ...program];
  const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  const said = async (word: string) => {
    while (!output.includes(word)) {
      if (child.exitCode !== null) assert.fail(`ended: ${output}`);
      await wait(5);
    }
  };
  child.stdout.on('data', (text) => {
    output += text;
  });
  const answer = said('answer: ').then(async () => {
    while (!output.endsWith('\n')) await wait(5);
    return output.slice(output.indexOf('answer: ') + 8).trim();
  });
  return { child, said, answer };
}

describe('a separate process-id namespace', () => {
  const without = (...flags: string[]) => {
    const { status, stderr, error } = spawnSync('unshare', [...flags, 'true'], { encoding: 'utf8' });
    return status === 0 ? false : `unshare ${flags.join(' ')}: ${error?.message ?? stderr.trim()}`;
  };

  for (const flags of [
    ['--pid', '--fork', '--mount-proc', '--kill-child'],
    // It sees the processes of this namespace in /proc, under ids that mean others in its own.
    ['--pid', '--fork', '--kill-child'],
  ]) {
    test(`unshare ${flags.join(' ')}: neither side steals the other's lock`, { skip: without(...flags) }, async (t) => {
      const start = join(temporaryFolder(t), 'start');
      fs.writeFileSync(start, '');
      const folder = temporaryFolder(t);
      const inside = locker(folder, start, ['unshare', ...flags]);
      t.after(() => inside.child.kill('SIGKILL'));
      assert.equal(await inside.answer, 'locked');
      const { pid, pidNamespace } = JSON.parse(fs.readFileSync(join(folder, 'lock.json'), 'utf8')) as typeof own;
      assert.notEqual(pidNamespace, own.pidNamespace);
      assert.ok(pid < 20, `process id ${pid}, in its own namespace`);
      assert.throws(() => lockRun(folder), /\(another container of this machine\).* is training in this folder/);

      const other = temporaryFolder(t);
      const mine = lockRun(other);
      const second = locker(other, start, ['unshare', ...flags]);
      t.after(() => second.child.kill('SIGKILL'));
      assert.match(await second.answer, /\(another container of this machine\).* is training in this folder/);
      mine.confirm();
      mine.release();

      // Two processes of the same namespace recognise each other.
      const both = temporaryFolder(t);
      const script = `"$@" & first=$!; until [ -s ${both}/lock.json ]; do sleep 0.05; done; sleep 0.3; "$@"; kill -9 $first; "$@"; true`;
      const third = locker(both, start, ['unshare', ...flags, 'sh', '-c', script, 'sh']);
      t.after(() => third.child.kill('SIGKILL'));
      await third.said('is training in this folder');
      await third.said('answer: locked\nready\nanswer: ');
      await third.said('next write\nready\nanswer: locked');
    });
  }
});
