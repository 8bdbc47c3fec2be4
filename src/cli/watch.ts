// `groupgrad watch`: shows the report of a run in a browser, while it trains.

import { once } from 'node:events';
import { readRunConfig } from '../run/run-folder.js';
import { watchRun } from '../watch/server.js';
import { numberFlag, parse, UsageError } from './arguments.js';

/** Next to TensorBoard's port. */
const usualPort = 6007;

export const help = `groupgrad watch <run folder> [options]

  Serves the report of a run on this machine and follows the run: curves, samples with their rewards, warnings,
  what the guard did. It only reads, in a process of its own: neither starting nor ending it disturbs the run. Ends with
  Ctrl+C.

  --port NUMBER        default: ${usualPort}, or a free one where that is taken; 0: a free one

  From another machine: ssh -L ${usualPort}:127.0.0.1:${usualPort} HOST, then http://127.0.0.1:${usualPort}/
`;

export async function watch(args: readonly string[]): Promise<void> {
  const { positionals, flags } = parse(args, ['a run folder'], { port: { type: 'string' } });
  const [folder] = positionals;
  const port = numberFlag('port', flags.port, { min: 0, max: 65535, integer: true });
  if (readRunConfig(folder) === undefined) {
    throw new UsageError(`${folder}: expected a run folder, got one without config.json`);
  }
  const { url, close } = await serve(folder, port);
  console.log(url);
  await Promise.race(['SIGHUP', 'SIGINT', 'SIGTERM'].map((signal) => once(process, signal)));
  await close();
}

async function serve(folder: string, port: number | undefined): ReturnType<typeof watchRun> {
  try {
    return await watchRun(folder, { port: port ?? usualPort });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (port === undefined && code === 'EADDRINUSE') return watchRun(folder, { port: 0 });
    if (code === 'EADDRINUSE' || code === 'EACCES') throw new UsageError(`--port: expected a free port: ${message}`);
    throw error;
  }
}
