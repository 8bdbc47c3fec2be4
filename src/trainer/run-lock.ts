// One process a folder: a lock file that says who holds it. Of a process that can be seen from here the system tells
// whether it is alive; of one in another container or on another machine its heartbeat does. A lock whose process has
// gone is taken over; one whose process is alive, where that is asked for. So an owner makes sure before it writes.

import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { startHeartbeat } from './heartbeat.js';
import { type LockOwner, parseOwner, placeOf, processState, thisOwner } from './lock-owner.js';

export const lockName = 'lock.json';

export interface LockOptions {
  /** Take it from a process that is alive. Default false. */
  takeOver?: boolean;
  /** Milliseconds between two heartbeats. Default 5000. */
  heartbeat?: number;
}

export interface RunLock {
  /** Error that says who has the folder now, when it is no longer this process's: nothing may be written to it. */
  confirm(): void;
  /** Whether `confirm` would pass. */
  readonly isHeld: boolean;
  /** Lets go of the folder. Doing so again does nothing. */
  release(): void;
}

const usualHeartbeat = 5000;

/**
 * A lock lapses after as long as so many heartbeats take. Client caches of network file systems show a file's time up to a
 * minute late, and a server that is restarted is away for as long.
 */
const lapsesAfter = 12;

/** Milliseconds after which half a lock is one that its process did not live to finish. */
const writingTime = 1000;

/** Milliseconds that another process may take to replace a lock; it needs as long as it takes to write a small file. */
const replacingTime = 10_000;

/** Takes the lock of a folder. Error that says which process holds it, and how to take it over. */
export function lockRun(folder: string, { takeOver = false, heartbeat = usualHeartbeat }: LockOptions = {}): RunLock {
  const path = join(folder, lockName);
  const text = JSON.stringify(thisOwner(randomUUID(), heartbeat));
  acquire(path, text, takeOver);
  removeLeftovers(path);
  const stopHeartbeat = startHeartbeat(path, text, heartbeat);
  let isReleased = false;
  return {
    confirm() {
      const found = readLock(path);
      if (found?.text !== text) throw new Error(lostMessage(folder, path, found));
    },
    get isHeld() {
      return readLock(path)?.text === text;
    },
    release() {
      if (isReleased) return;
      isReleased = true;
      stopHeartbeat();
      try {
        // Whoever has taken it over in the meantime keeps it.
        asReplacer(path, text, () => {
          if (readLock(path)?.text === text) fs.rmSync(path, { force: true });
        });
      } catch {
        // The folder is gone, or cannot be written to: what is left is the lock of a process that will have ended.
      }
    },
  };
}

/** Whether a process that is alive, as far as can be told from here, holds a folder. */
export function isLocked(folder: string): boolean {
  const path = join(folder, lockName);
  const found = readLock(path);
  const owner = found && parseOwner(found.text);
  return owner !== undefined && isAlive(owner, () => age(path, found!));
}

/** A lock file as it was found. */
interface FoundLock {
  text: string;
  /** When it was written, by the file system's clock: milliseconds since 1970. */
  written: number;
}

function acquire(path: string, text: string, takeOver: boolean): void {
  const began = performance.now();
  for (;;) {
    create(path, text);
    const found = readLock(path);
    // Read back: one that is still being written may be taken for half a lock, and replaced.
    if (found?.text === text) return;
    if (found === undefined) continue;
    const owner = parseOwner(found.text);
    if (owner === undefined) {
      // A lock is created first and written then: half of one may be about to become whole.
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
      throw new Error(`${dirname(path)}: another process is taking it over`);
    pause();
  }
}

/**
 * Does what only one process may do at a time to a lock of this text: replace or remove it. The right to is a lock too, named
 * after path and text, so that it says nothing of the lock that comes next. Whether it was done: not while another does it.
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
    // One that did not live to finish is replaced in the same way.
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

/** Puts a lock in the place of another, all at once. */
function replace(path: string, text: string): void {
  const passing = `${path}.${randomUUID()}`;
  try {
    fs.writeFileSync(passing, text, { flag: 'wx' });
    fs.renameSync(passing, path);
  } finally {
    fs.rmSync(passing, { force: true });
  }
}

/** Whether the file is new, and ours. */
function create(path: string, text: string): boolean {
  try {
    fs.writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/** undefined for a file that is gone. */
function readLock(path: string): FoundLock | undefined {
  let file: number;
  try {
    // Opened anew: what a network file system knew of the file is asked for again.
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

/** Milliseconds since a lock was written. */
function age(path: string, { written }: FoundLock): number {
  return fileSystemTime(dirname(path)) - written;
}

/** The time by the clock that a folder's files are stamped by: that of another machine may be minutes off. */
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
  // Without a heartbeat nothing can be known but of a machine that was started anew.
  if (owner.heartbeat === null) return place !== 'another boot';
  return milliseconds() < lapsesAfter * owner.heartbeat;
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
    if (place !== 'here') facts.push(`its lock lapses ${(lapsesAfter * owner.heartbeat) / 1000} s after the last one`);
  } else if (place !== 'here') {
    facts.push('its lock is of an earlier version, without a heartbeat: whether it is alive cannot be told from here');
  }
  const { length } = facts;
  return (
    `${dirname(path)}: ${describeOwner(owner, places[place])} is training in this folder` +
    `${length > 0 ? `; ${facts.join(', ')}` : ''}. If it has gone, or is to give way: --take-over ` +
    '(takeOver: true in a program); it ends before its next write'
  );
}

function lostMessage(folder: string, path: string, found: FoundLock | undefined): string {
  const owner = found && parseOwner(found.text);
  const reason = owner
    ? `${describeOwner(owner)} has taken it over`
    : `its lock, ${path}, ${found ? 'was overwritten' : 'was removed'}`;
  return `${folder}: this process no longer holds the folder and writes nothing more to it: ${reason}`;
}

/** Small files of processes that were killed while they took a lock. */
function removeLeftovers(path: string): void {
  const folder = dirname(path);
  const names = fs.readdirSync(folder).filter((name) => name.startsWith(`${basename(path)}.`));
  if (names.length === 0) return;
  const now = fileSystemTime(folder);
  for (const name of names) {
    const written = fs.statSync(join(folder, name), { throwIfNoEntry: false })?.mtimeMs ?? now;
    if (now - written > lapsesAfter * usualHeartbeat) fs.rmSync(join(folder, name), { force: true });
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}
