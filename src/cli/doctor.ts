// `groupgrad doctor`: what there is on this machine, and why the rest is not.

import { devices } from '../devices/devices.js';
import { parse } from './arguments.js';

export const help = `groupgrad doctor [--json]

  Which devices compute the loss, which tfjs backends start, whether the loss runs inside TensorFlow, and why not. Exits with 1 where nothing can train.
`;

interface Finding {
  name: string;
  available: boolean;
  detail: string;
}

export async function doctor(args: readonly string[]): Promise<void> {
  const { flags } = parse(args, [], { json: { type: 'boolean' } });
  const found = {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    devices: devices() as Finding[],
  };
  const backends = await findBackends();
  if (!backends.some(({ available }) => available)) process.exitCode = 1;
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ ...found, backends })}\n`);
    return;
  }
  console.log(`Node ${found.node}, ${found.platform}`);
  print('Devices for the loss', found.devices);
  print('tfjs backends for policies', backends);
}

/** Starts each backend in turn, the best last: it stays. */
async function findBackends(): Promise<Finding[]> {
  try {
    await import('@tensorflow/tfjs-core');
  } catch (error) {
    return [{ name: 'tfjs', available: false, detail: firstLine(error) }];
  }
  const { backends, startBackend } = await import('../backend/backend.js');
  const { tfjsBridge } = await import('../tfjs/index.js');
  const bridge = () => {
    const { path, detail } = tfjsBridge();
    return path === 'operations'
      ? `the loss runs inside it: ${detail}`
      : `the loss goes through typed arrays: ${detail}`;
  };
  const findings: Finding[] = [];
  for (const name of backends) {
    try {
      const started = (await startBackend(name)).package;
      findings.push({ name, available: true, detail: name === 'tensorflow' ? `${started}; ${bridge()}` : started });
    } catch (error) {
      findings.push({ name, available: false, detail: String((error as Error).message.split('\n').at(-1)).trim() });
    }
  }
  return findings;
}

function print(title: string, findings: readonly Finding[]): void {
  console.log(`\n${title}`);
  for (const { name, available, detail } of findings)
    console.log(`  ${available ? '✓' : '✗'} ${name.padEnd(10)} ${detail}`);
}

function firstLine(error: unknown): string {
  return (error as Error).message.split('\n')[0];
}
