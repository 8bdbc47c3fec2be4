// Contenders of a benchmark, each in a separate process that waits while others compute: other load on the machine affects
// all of them.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface Contender {
  name: string;
  command: string;
  args: string[];
}

/** A program of this folder, run by Node.js. */
export function program(name: string, file: string, ...args: string[]): Contender {
  return {
    name,
    command: process.execPath,
    args: ['--import', 'tsx', fileURLToPath(new URL(file, import.meta.url)), ...args],
  };
}

/** A program of this folder, run by a Python if there is one. */
export function pythonProgram(python: string | undefined, name: string, file: string, ...args: string[]): Contender[] {
  if (!python) return [];
  return [{ name, command: python, args: [fileURLToPath(new URL(file, import.meta.url)), ...args] }];
}

/** A contender's process: it writes its version, and responds to each line that it receives with a line of seconds. */
export class Peer {
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(readonly contender: Contender) {
    this.process = spawn(contender.command, contender.args, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]();
  }

  /** Its version, or undefined if it cannot run here. */
  async start(): Promise<string | undefined> {
    const { done, value } = await this.lines.next();
    return done ? undefined : value;
  }

  /** Error if the process has ended. NaN if it cannot run the request. */
  async measure(request: string): Promise<number> {
    this.process.stdin!.write(`${request}\n`);
    const { done, value } = await this.lines.next();
    if (done) throw new Error(`${this.contender.name} ended`);
    return Number(value);
  }

  stop(): void {
    this.process.stdin!.end();
  }
}

/** The contenders that can run here, with their versions. */
export async function startPeers(contenders: readonly Contender[]) {
  const peers: Peer[] = [];
  const versions: Record<string, string> = {};
  for (const contender of contenders) {
    const peer = new Peer(contender);
    const version = await peer.start();
    if (version === undefined) {
      console.log(`${contender.name}: not here`);
      continue;
    }
    versions[contender.name] = version;
    peers.push(peer);
  }
  return { peers, versions };
}

/** Seconds by contender, one per round, with all contenders in every round. The first response, which warms up, is dropped. */
export async function takeTurns(
  peers: readonly Peer[],
  request: string,
  rounds: number,
): Promise<Record<string, number[]>> {
  const samples: Record<string, number[]> = {};
  const able: Peer[] = [];
  for (const peer of peers) {
    if (Number.isNaN(await peer.measure(request))) continue;
    samples[peer.contender.name] = [];
    able.push(peer);
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < able.length; i++) {
      const peer = able[(i + round) % able.length];
      samples[peer.contender.name].push(await peer.measure(request));
    }
  }
  return samples;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

/** Median and quartiles, as written in results. */
export function summary(values: readonly number[]): { median: number; quartiles: number[] } {
  return { median: quantile(values, 0.5), quartiles: [quantile(values, 0.25), quantile(values, 0.75)] };
}

/** The median over rounds of the speed-up of `own` over `other`. */
export function timesAsFast(own: readonly number[], other: readonly number[]): number {
  return quantile(
    own.map((seconds, i) => other[i] / seconds),
    0.5,
  );
}
