// One process per folder: a lock file that identifies its owner. The operating system tells whether an owner in this
// namespace is alive; for one in another container or on another machine its heartbeat decides. The lock of a dead process
// is replaced; that of a running one only on request. Therefore an owner checks its lock before each write.

import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { startHeartbeat } from './heartbeat.js';
import { type LockOwner, parseOwner, placeOf, processState, thisOwner } from './lock-owner.js';

export const lockName = 'lock.json';

export interface LockOptions {
  /** Take the lock even if its owner is alive. Default false. */
  takeOver?: boolean;
  /** Milliseconds between two heartbeats. Default 5000. */
  heartbeat?: number;
}

export interface RunLock {
  /**
   * Throws an Error if the lock is lost: nothing may be written to the folder then. Names the new owner if there is one. A missing
   * lock is lost too: another process may have taken the folder, written to it, and released it.
   */
  confirm(): void;
  /** Takes the lock again after the folder has been removed. Throws like `confirm` if another process was faster. */
  retake(): void;
  /** Whether the lock file is still that of this lock. */
  readonly isHeld: boolean;
  /** Releases the folder. A second call does nothing. */
  release(): void;
}

const usualHeartbeat = 5000;

/**
 * A lock expires after this many missed heartbeats: one minute. Clients of network file systems may see file times up to a
 * minute late, and a restarting file server pauses writes for about as long.
 */
const missedHeartbeats = 12;

/** Milliseconds after which an incomplete lock file counts as left over from a process that died while writing it. */
const writingTime = 1000;

/** Milliseconds to wait for another process that is replacing a lock, which takes as long as writing a small file. */
const replacingTime = 10_000;

/** Takes the lock of a folder. Throws an Error that says which process holds it and how to take it over. */
export function lockRun(folder: string, { takeOver = false, heartbeat = usualHeartbeat }: LockOptions = {}): RunLock {
  const path = join(folder, lockName);
  const text = JSON.stringify(thisOwner(randomUUID(), heartbeat));
  acquire(path, text, takeOver);
  removeLeftovers(path);
  const stopHeartbeat = startHeartbeat(path, text, heartbeat);
  const confirm = () => {
    const found = readLock(path);
    if (found?.text !== text) throw new Error(lostMessage(folder, path, found));
  };
  let isReleased = false;
  return {
    confirm,
    retake() {
      fs.mkdirSync(folder, { recursive: true });
      create(path, text);
      confirm();
    },
    get isHeld() {
      return readLock(path)?.text === text;
    },
    release() {
      if (isReleased) return;
      isReleased = true;
      stopHeartbeat();
      try {
        // Leave the lock of a process that has taken the folder over.
        asReplacer(path, text, () => {
          if (readLock(path)?.text === text) fs.rmSync(path, { force: true });
        });
      } catch {
        // The folder is gone or read-only. A lock left there will be that of a dead process.
      }
    },
  };
}

/** Whether a process that appears to be alive holds the folder. */
export function isLocked(folder: string): boolean {
  const path = join(folder, lockName);
  const found = readLock(path);
  const owner = found && parseOwner(found.text);
  return owner !== undefined && isAlive(owner, () => age(path, found!));
}

/** A lock file as read. */
interface FoundLock {
  text: string;
  /** Modification time, by the clock of the file system: milliseconds since 1970. */
  written: number;
}

function acquire(path: string, text: string, takeOver: boolean): void {
  const began = performance.now();
  for (;;) {
    create(path, text);
    const found = readLock(path);
    // Read back, because another process may have replaced the file while it was incomplete.
    if (found?.text === text) return;
    if (found === undefined) continue;
    const owner = parseOwner(found.text);
    if (owner === undefined) {
      // Its owner may still be writing it.
      if (age(path, found) < writingTime) {
        pause();
        continue;
      }
    } else if (!takeOver && isAlive(owner, () => age(path, found))) {
      throw new Error(heldMessage(path, owner, found));
    }
    const isTried = asReplacer(path, found.text, () => {
      if (readLock(path)?.text === found.text) replace(path, text);
    });
    if (isTried) continue;
    if (performance.now() - began > replacingTime)
      throw new Error(`${dirname(path)}: another process is taking over its lock`);
    pause();
  }
}

/**
 * Runs an action that only one process at a time may apply to a given lock: replacing or removing it. The right to do so is a
 * lock file too. Its name contains a hash of path and text, so that it does not affect the next lock. Returns false if another
 * process holds the right.
 */
function asReplacer(path: string, text: string, action: () => void): boolean {
  const digest = createHash('sha256')
    .update(`${basename(path)} ${text}`)
    .digest('hex')
    .slice(0, 16);
  const right = `${join(dirname(path), lockName)}.${digest}`;
  const own = JSON.stringify(thisOwner(randomUUID(), usualHeartbeat));
  if (!create(right, own)) {
    const found = readLock(right);
    const owner = found && parseOwner(found.text);
    const isWorking = found && (owner ? isAlive(owner, () => age(right, found)) : age(right, found) < writingTime);
    // The right of a dead process is removed in the same way.
    if (found && !isWorking) {
      asReplacer(right, found.text, () => {
        if (readLock(right)?.text === found.text) fs.rmSync(right, { force: true });
      });
    }
    return false;
  }
  try {
    action();
  } finally {
    fs.rmSync(right, { force: true });
  }
  return true;
}

/** Replaces a lock atomically. */
function replace(path: string, text: string): void {
  const passing = `${path}.${randomUUID()}`;
  try {
    fs.writeFileSync(passing, text, { flag: 'wx' });
    fs.renameSync(passing, path);
  } finally {
    fs.rmSync(passing, { force: true });
  }
}

/** Creates a file. Returns false if it exists. */
function create(path: string, text: string): boolean {
  try {
    fs.writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/** undefined if there is no such file. */
function readLock(path: string): FoundLock | undefined {
  let file: number;
  try {
    // Opening the file makes a network file system refresh what its client has cached.
    file = fs.openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return { text: fs.readFileSync(file, 'utf8'), written: fs.fstatSync(file).mtimeMs };
  } finally {
    fs.closeSync(file);
  }
}

/** Milliseconds since the last write. */
function age(path: string, { written }: FoundLock): number {
  return fileSystemTime(dirname(path)) - written;
}

/** The clock of the folder's file system, which may belong to another machine and differ by minutes. */
function fileSystemTime(folder: string): number {
  const path = join(folder, `${lockName}.${randomUUID()}`);
  const file = fs.openSync(path, 'wx');
  try {
    fs.writeSync(file, '.');
    fs.fsyncSync(file);
    return fs.fstatSync(file).mtimeMs;
  } finally {
    fs.closeSync(file);
    fs.rmSync(path, { force: true });
  }
}

function isAlive(owner: LockOwner, milliseconds: () => number): boolean {
  const place = placeOf(owner);
  if (place === 'here') {
    const state = processState(owner.pid, owner.started);
    if (state !== 'unknown') return state === 'running';
  }
  // An earlier version, without a heartbeat: only a reboot proves that it is dead.
  if (owner.heartbeat === null) return place !== 'another boot';
  return milliseconds() < missedHeartbeats * owner.heartbeat;
}

const places: Readonly<Record<ReturnType<typeof placeOf>, string>> = {
  here: '',
  'another namespace': ' (another container of this machine)',
  'another boot': ' (another boot of that machine, or another machine of that name)',
  'another machine': ' (another machine)',
};

function describeOwner({ pid, host, since }: LockOwner, place = ''): string {
  return `process ${pid} on ${host}${place}${since === null ? '' : `, since ${since},`}`;
}

function heldMessage(path: string, owner: LockOwner, found: FoundLock): string {
  const place = placeOf(owner);
  const facts: string[] = [];
  if (owner.heartbeat !== null) {
    facts.push(`its last heartbeat was ${Math.max(0, Math.round(age(path, found) / 1000))} s ago`);
    if (place !== 'here')
      facts.push(`its lock expires ${(missedHeartbeats * owner.heartbeat) / 1000} s after the last one`);
  } else if (place !== 'here') {
    facts.push(
      'its lock is from an earlier version without a heartbeat, so this process cannot tell whether it is alive',
    );
  }
  const { length } = facts;
  return (
    `${dirname(path)}: ${describeOwner(owner, places[place])} is training in this folder` +
    `${length > 0 ? `; ${facts.join(', ')}` : ''}. If it is gone or should stop, take the folder over with --take-over ` +
    '(takeOver: true in code); it then stops before its next write'
  );
}

function lostMessage(folder: string, path: string, found: FoundLock | undefined): string {
  const owner = found && parseOwner(found.text);
  const reason = owner
    ? `${describeOwner(owner)} is training in this folder now`
    : `its lock, ${path}, ${found ? 'was overwritten' : 'was removed'}`;
  return `${folder}: this process has lost the folder and writes nothing more to it: ${reason}`;
}

/** Removes files left behind by processes that were killed while they took a lock. */
function removeLeftovers(path: string): void {
  const folder = dirname(path);
  const names = fs.readdirSync(folder).filter((name) => name.startsWith(`${basename(path)}.`));
  if (names.length === 0) return;
  const now = fileSystemTime(folder);
  for (const name of names) {
    const written = fs.statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? now;
    if (now - written > missedHeartbeats * usualHeartbeat) fs.rmSync(join(folder, name), { force: true });
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}
