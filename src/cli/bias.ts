// `groupgrad bias`: the bias of group-relative advantages, in theory and in simulated groups.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BiasSettings, biasDefaults, biasStudy, families, largestDeviation, sigma } from '../bias/bias-study.js';
import { biasFigures } from '../bias/report/figures.js';
import { biasPage } from '../bias/report/page.js';
import { agreement, biasTables, tableText, wrapped } from '../bias/report/tables.js';
import { chartFile } from '../report/chart.js';
import { writePage } from '../report/page.js';
import { numberFlag, parse, UsageError } from './arguments.js';

export const help = `groupgrad bias [flags]

  How the group baseline misjudges a response's advantage, by success probability and group size: the formulas of
  "Your Group-Relative Advantage Is Biased" (arXiv 2601.08521), each next to the value in simulated groups.

  --group-sizes LIST  default: ${biasDefaults.groupSizes.join(',')}
  --samples N         simulated groups per number; default ${biasDefaults.samples}
  --seed N            seed of the simulation; default ${biasDefaults.seed}
  --epsilon E         also count advantages that are misjudged by more than this; default ${biasDefaults.epsilon}
  --out FILE.html     also write a page with figures and tables that needs no network
  --figures DIR       also write the figures as SVG files
  --json              JSON on standard output
`;

/** The bias of larger groups is negligible, and they take long to simulate. */
const maxResponses = 1024;

export async function bias(args: readonly string[]): Promise<void> {
  const { flags } = parse(args, [], {
    'group-sizes': { type: 'string' },
    samples: { type: 'string' },
    seed: { type: 'string' },
    epsilon: { type: 'string' },
    out: { type: 'string' },
    figures: { type: 'string' },
    json: { type: 'boolean' },
  });
  const settings: BiasSettings = {
    groupSizes: groupSizesFlag(flags['group-sizes']) ?? biasDefaults.groupSizes,
    // With fewer samples the standard error would be meaningless.
    samples: numberFlag('samples', flags.samples, { min: 100, max: 1e8, integer: true }) ?? biasDefaults.samples,
    seed: numberFlag('seed', flags.seed, { min: 0, integer: true }) ?? biasDefaults.seed,
    epsilon: numberFlag('epsilon', flags.epsilon, { min: 0, max: 1 }) ?? biasDefaults.epsilon,
  };
  const comparisons = biasStudy(settings);
  if (flags.json) {
    const rewards = Object.fromEntries(families.map((family) => [family.rewards, family.description]));
    process.stdout.write(`${JSON.stringify({ settings: { ...settings, sigma, rewards }, comparisons })}\n`);
  } else {
    for (const table of biasTables(comparisons, settings)) console.log(`${tableText(table)}\n`);
    console.log('In brackets: the difference between simulation and theory, in standard errors.');
    console.log(wrapped(agreement(comparisons, largestDeviation(comparisons), settings.samples)));
  }
  const say = flags.json ? console.error : console.log;
  if (flags.figures !== undefined) {
    mkdirSync(flags.figures, { recursive: true });
    for (const { name, chart } of biasFigures(comparisons, settings)) {
      const file = join(flags.figures, `${name}.svg`);
      writeFileSync(file, `${chartFile(chart)}\n`);
      say(file);
    }
  }
  if (flags.out !== undefined) {
    await writePage(flags.out, biasPage(comparisons, settings));
    say(flags.out);
  }
}

function groupSizesFlag(text: string | undefined): number[] | undefined {
  if (text === undefined) return undefined;
  const sizes = text
    .split(',')
    .map((part) => numberFlag('group-sizes', part, { min: 2, max: maxResponses, integer: true })!);
  if (new Set(sizes).size < sizes.length) {
    throw new UsageError(`--group-sizes: expected each size once, got ${JSON.stringify(text)}`);
  }
  return sizes;
}
