// `groupgrad doctor`: shows what works on this machine, what does not and why, and how to fix it.

import { spawnSync } from 'node:child_process';
import { backends } from '../backend/names.js';
import { isMissing, tfjsPackages } from '../base/missing-tfjs.js';
import { addCommand, packageManager } from '../base/package-manager.js';
import { packageVersion } from '../base/version.js';
import { type DeviceChoice, devices } from '../devices/devices.js';
import { loadAddon, loadCuda } from '../devices/load.js';
import { platform, usesMusl } from '../devices/places.js';
import { policyLoss } from '../loss/losses.js';
import { presets } from '../loss/presets.js';
import { parse } from './arguments.js';
import { shortPath, wrap } from './terminal.js';

export const help = `groupgrad doctor [--json]

  Reports where the native addon came from, which devices compute the loss, which TensorFlow.js backends start, whether
  the loss runs inside TensorFlow, and which Python packages are installed; for the rest, the reason and the command
  that fixes it. Exits with 1 if a device computes a wrong loss.
`;

interface Finding {
  name: string;
  available: boolean;
  /** Its description, or why it is not available. */
  detail: string;
  /** The command that installs it. */
  remedy?: string;
}

export async function doctor(args: readonly string[]): Promise<void> {
  const { flags } = parse(args, [], { json: { type: 'boolean' } });
  const machine = {
    groupgrad: packageVersion(),
    node: process.version,
    platform,
    libc: libc(),
    packageManager: packageManager(),
  };
  const addon = findAddon();
  const computing = devices().map(check);
  const found = await findBackends();
  const python = findPython();
  if (computing.some(({ isWrong }) => isWrong)) process.exitCode = 1;
  const report = {
    ...machine,
    addon,
    devices: computing.map(({ isWrong: _, ...finding }) => finding),
    ...found,
    python,
  };
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const system = machine.libc === undefined ? platform : `${platform} with ${machine.libc}`;
  console.log(wrap(`groupgrad ${machine.groupgrad}, Node ${machine.node}, ${system}, ${machine.packageManager}`));
  print('Native addon', [addon]);
  print('Devices for the loss', report.devices.map(inShort));
  print('TensorFlow.js backends for policies', report.backends);
  print('Loss inside TensorFlow', [report.tensorflow]);
  print('Python, to compare with and to read runs in TensorBoard', python);
}

function findAddon(): Finding {
  const loaded = loadAddon();
  if (!loaded.addon) return { name: 'addon', available: false, detail: loaded.cause, remedy: loaded.remedy };
  const passedOver = loaded.passedOver.map((reason) => `; skipped: ${reason}`).join('');
  return { name: 'addon', available: true, detail: `${loaded.origin}, ${shortPath(loaded.path)}${passedOver}` };
}

/** A device without the details that the addon's entry already shows, and with its remedy separate. */
function inShort(finding: Finding): Finding {
  const loaded = loadAddon();
  if (finding.name === 'reference') return finding;
  if (!loaded.addon) return { ...finding, detail: 'needs the native addon' };
  const cuda = loadCuda();
  if (finding.name === 'cuda' && !cuda.addon) return { ...finding, detail: cuda.detail, remedy: cuda.remedy };
  return { ...finding, detail: finding.detail.replace(`, ${loaded.path}`, '') };
}

/** Checks a device by a loss whose value is known. */
function check({ name, available, detail }: Finding): Finding & { isWrong: boolean } {
  if (!available) return { name, available, detail, isWrong: false };
  try {
    // One token with ratio 1 and advantage 2: the loss is -2, and so is its gradient with respect to the log-prob.
    const { loss, gradLogProbs } = policyLoss(
      { shape: { sequences: 1, length: 1 }, logProbs: Float32Array.of(-1), advantages: Float32Array.of(2) },
      presets.grpo,
      { device: name as DeviceChoice },
    );
    if (loss === -2 && gradLogProbs[0] === -2) return { name, available, detail, isWrong: false };
    const got = `computes a wrong result: loss ${loss} and gradient ${gradLogProbs[0]}, expected -2 and -2`;
    return { name, available: false, detail: `${detail}; ${got}`, isWrong: true };
  } catch (error) {
    return { name, available: false, detail: `${detail}; fails: ${(error as Error).message}`, isWrong: true };
  }
}

/** Starts each backend in turn. */
async function findBackends(): Promise<{ backends: Finding[]; tensorflow: Finding }> {
  const name = 'tensorflow';
  try {
    await import('@tensorflow/tfjs-core');
  } catch (error) {
    const detail = isMissing(error, tfjsPackages[0]) ? 'not installed' : firstLine(error);
    const tensorflow = { name, available: false, detail: 'needs TensorFlow.js' };
    return { backends: [{ name: 'tfjs', available: false, detail, remedy: addCommand(tfjsPackages) }], tensorflow };
  }
  const { howToGet, tryBackends } = await import('../backend/backend.js');
  const { tfjsBridge } = await import('../tfjs/index.js');
  const findings: Finding[] = [];
  let tensorflow: Finding = { name, available: false, detail: `needs the backend ${name}` };
  for (const backend of backends) {
    const result = await tryBackends(backend);
    if (Array.isArray(result)) {
      const reasons = new Set(result.map(({ reason }) => reason));
      const detail =
        reasons.size === 1 ? [...reasons][0] : result.map((each) => `${each.package}: ${each.reason}`).join('; ');
      findings.push({ name: backend, available: false, detail, remedy: howToGet(backend) });
      continue;
    }
    findings.push({ name: backend, available: true, detail: result.package });
    if (backend === name) {
      const { path, detail } = tfjsBridge();
      tensorflow = { name, available: path === 'operations', detail };
    }
  }
  return { backends: findings, tensorflow };
}

/** Python packages that parts of the repository work with; none is required for training. */
const pythonPackages = {
  torch: 'benchmarks against PyTorch',
  tensorboard: 'curves of runs/*/tensorboard',
} as const;

function findPython(): Finding[] {
  const python = process.env.PYTHON || 'python3';
  const program = `
import importlib.metadata, json, platform, sys
def version(name):
    try: return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: return None
print(json.dumps([platform.python_version(), {name: version(name) for name in sys.argv[1:]}]))`;
  const names = Object.keys(pythonPackages) as (keyof typeof pythonPackages)[];
  const { status, stdout } = spawnSync(python, ['-c', program, ...names], { encoding: 'utf8', timeout: 10_000 });
  if (status !== 0) {
    const remedy = 'install Python 3, or set PYTHON to its path';
    return [{ name: 'python', available: false, detail: `${python} does not run`, remedy }];
  }
  const [version, versions] = JSON.parse(stdout) as [string, Record<string, string | null>];
  return [
    { name: 'python', available: true, detail: `${version}, ${python}` },
    ...names.map((name) => {
      const found = versions[name];
      if (found) return { name, available: true, detail: `${found}, for ${pythonPackages[name]}` };
      const remedy = `${python} -m pip install ${name}`;
      return { name, available: false, detail: `not installed; for ${pythonPackages[name]}`, remedy };
    }),
  ];
}

/** `glibc 2.36`, `musl`; undefined outside of Linux. */
function libc(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  if (usesMusl()) return 'musl';
  (process.report as { excludeNetwork?: boolean }).excludeNetwork = true; // otherwise the report resolves the host names of all connections
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return `glibc ${header.glibcVersionRuntime ?? '(of unknown version)'}`;
}

function print(title: string, findings: readonly Finding[]): void {
  console.log(`\n${wrap(title)}`);
  for (const { name, available, detail, remedy } of findings) {
    const label = `  ${available ? '✓' : '✗'} ${name.padEnd(11)} `;
    console.log(`${label}${wrap(detail, { indent: label.length })}`);
    if (remedy === undefined) continue;
    // Indented less than the details, so that a command fits on one line and can be copied.
    const indent = 4;
    console.log(`${' '.repeat(indent)}${wrap(`→ ${remedy}`, { indent })}`);
  }
}

function firstLine(error: unknown): string {
  return (error as Error).message.split('\n')[0];
}
