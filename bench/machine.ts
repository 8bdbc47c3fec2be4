// The machine that a result came from, and the memory that a piece of work took.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { devices } from '../src/index.js';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  os: string;
  node: string;
  devices: string[];
  commit: string;
}

function output(command: string, args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    os: `${process.platform} ${release().split('-')[0]}`,
    node: process.version,
    devices: devices().map(({ name, available, detail }) =>
      available ? `${name}: ${detail.split(', ').slice(0, 2).join(', ')}` : `${name}: not available`,
    ),
    commit: output('git', ['describe', '--always', '--dirty']),
  };
}

/** A line of /proc/self/status, in bytes. */
export function status(field: 'VmHWM' | 'VmRSS'): number {
  const match = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(match![1]) * 1024;
}

/**
 * Bytes by which resident memory grew at its peak while `work` ran; undefined if the system does not report it
 * (Linux does: its high-water mark can be reset).
 */
export function peakExtraBytes(work: () => void): number | undefined {
  try {
    globalThis.gc?.();
    writeFileSync('/proc/self/clear_refs', '5');
    const before = status('VmRSS');
    work();
    return Math.max(0, status('VmHWM') - before);
  } catch {
    return undefined;
  }
}
