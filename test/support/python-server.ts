// test/support/rollout_server.py as a process, for tests of vLLM's and SGLang's routes with transformers and PEFT.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { root } from './native.js';

const python = process.env.GROUPGRAD_PYTHON ?? 'python3';

/** Why the server cannot run here, or false. Looks for the packages without importing them, which takes long. */
export function cannotServe(): string | false {
  const script = [
    'from importlib.util import find_spec',
    'raise SystemExit(any(find_spec(name) is None for name in ("torch", "transformers", "peft")))',
  ].join('\n');
  const hasAll = spawnSync(python, ['-c', script]).status === 0;
  return !hasAll && `${python} has no torch, transformers and peft (GROUPGRAD_PYTHON names another)`;
}

export type PythonFault = 'ignores-loads' | 'first-adapter' | 'other-adapter' | 'no-temperature' | 'slow';

export interface PythonServer {
  url: string;
  /** Sends SIGKILL, without a warning. */
  kill(): void;
  /** Kills it and waits until it has ended. */
  end(): Promise<void>;
  /** The status and the JSON of the response to a request. */
  ask(path: string, body?: object): Promise<{ status: number; answer: unknown }>;
  /** Names of the loaded adapters. */
  loaded(): Promise<string[]>;
  setFault(fault: PythonFault | null): Promise<void>;
}

/** A server of a model folder, once it responds; on any free port unless one is given. */
export async function startPythonServer(model: string, port = 0): Promise<PythonServer> {
  const args = [join(root, 'test', 'support', 'rollout_server.py'), model, '--port', String(port)];
  const child: ChildProcess = spawn(python, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr!.on('data', (text) => {
    errors += text;
  });
  const exited = once(child, 'exit');
  const bound = await new Promise<number>((resolve, reject) => {
    let output = '';
    child.stdout!.on('data', (text) => {
      output += text;
      const [, found] = /listening on (\d+)\n/.exec(output) ?? [];
      if (found) resolve(Number(found));
    });
    exited.then(() => reject(new Error(`the server ended before it answered: ${errors}`)), reject);
  });
  const url = `http://127.0.0.1:${bound}`;
  const ask: PythonServer['ask'] = async (path, body) => {
    const request = body && { method: 'POST', body: JSON.stringify(body) };
    const response = await fetch(`${url}${path}`, request);
    return { status: response.status, answer: await response.json() };
  };
  return {
    url,
    ask,
    kill: () => void child.kill('SIGKILL'),
    async end() {
      child.kill('SIGKILL');
      await exited;
    },
    async loaded() {
      const { answer } = await ask('/v1/models');
      return (answer as { data: { id: string }[] }).data.map(({ id }) => id);
    },
    async setFault(fault) {
      assert.equal((await ask('/fault', { fault })).status, 200);
    },
  };
}
