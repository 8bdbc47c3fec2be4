// The mixture study's results as Markdown tables, which docs/hadw.md contains unchanged. Shares are in percent.

import type { ComparisonResult } from '../../../src/compare/result.js';
import type { PairSummary, SeedValues, VariantSummary } from '../../../src/compare/summary.js';
import { estimate, signFlipTest } from '../../../src/evaluation/statistics.js';
import { sum } from '../ladder/statistics.js';
import { digits, signed, type Table, table } from '../markdown.js';

const buckets = ['hard', 'medium', 'easy'];

export function tablesOf(result: ComparisonResult): Table[] {
  return [bucketTable(result), variantTable(result), pairTable(result, 'pass@1'), pairTable(result, 'pass@1/mean')];
}

/** The results of the initial policy on the prompts. */
function bucketTable({ seeds }: ComparisonResult): Table {
  const range = (values: readonly number[], count: number) => {
    const [low, high] = [Math.min(...values), Math.max(...values)].map((value) => digits(value, count));
    return low === high ? low : `${low} – ${high}`;
  };
  return table(
    'Prompts by their success before training, lowest and highest of all seeds',
    ['', 'prompts', 'pass@1', 'pass@8'],
    [
      ...buckets.map((bucket) => {
        const own = seeds.map((seed) => seed.buckets[bucket]);
        const shares = (name: 'pass@1' | 'pass@8') => own.map((one) => 100 * one[name]!);
        return [
          bucket,
          range(
            own.map(({ prompts }) => prompts),
            0,
          ),
          range(shares('pass@1'), 1),
          range(shares('pass@8'), 1),
        ];
      }),
      [
        'in no bucket',
        range(
          seeds.map(({ aside }) => aside),
          0,
        ),
        '',
        '',
      ],
    ],
  );
}

function variantTable({ summary }: ComparisonResult): Table {
  const names = [...new Set(summary.variants.map(({ variant }) => variant))];
  const of = (variant: string, bucket: string) =>
    summary.variants.find((one) => one.variant === variant && one.bucket === bucket)!;
  const share = ({ quantities }: VariantSummary, name: keyof VariantSummary['quantities']) =>
    digits(100 * quantities[name].mean!, 1);
  return table(
    'Every variant at its end, means over seeds',
    [
      'variant',
      ...buckets.map((bucket) => `${bucket}: pass@1`),
      'hard: pass@8',
      'hard: steps to ½, median',
      'groups without a gradient, in training',
    ],
    names.map((name) => [
      name,
      ...buckets.map((bucket) => share(of(name, bucket), 'pass@1')),
      share(of(name, 'hard'), 'pass@8'),
      steps(of(name, 'hard')),
      share(of(name, 'all'), 'train/frac_reward_zero_std'),
    ]),
  );
}

function steps({ half: { median_steps, reached, runs } }: VariantSummary): string {
  const text = median_steps === null ? 'never' : digits(median_steps, Number.isInteger(median_steps) ? 0 : 1);
  return reached === runs ? text : `${text} (${reached} of ${runs})`;
}

/** One line of a table of differences. */
interface Compared {
  name: string;
  of(bucket: string): SeedValues & { p: number | null };
}

/** Differences of pairs, with their intervals, and p of the exact test for hard prompts and for all. */
function pairTable({ summary, seeds }: ComparisonResult, quantity: 'pass@1' | 'pass@1/mean'): Table {
  const own = (pair: Pair, bucket: string) =>
    summary.pairs.find((one) => nameOf(one) === nameOf(pair) && one.bucket === bucket)!.quantities[quantity];
  const pairs = [...new Map(summary.pairs.map((pair) => [nameOf(pair), pair])).values()];
  const weighted = pairs.filter(({ variant, baseline }) => variant === `${baseline}+hadw`);
  const rows: Compared[] = [
    ...pairs.map((pair) => ({ name: nameOf(pair), of: (bucket: string) => own(pair, bucket) })),
    {
      name: `mean of the ${weighted.length} with and without HA-DW`,
      of: (bucket) => averageOver(weighted.map((pair) => own(pair, bucket))),
    },
  ];
  return table(
    `${quantity === 'pass@1' ? 'pass@1 at the end' : 'pass@1 over the run'}: differences, paired over ${seeds.length} seeds, with their 95 % intervals`,
    ['', 'hard', 'p', 'medium', 'easy', 'all', 'p'],
    rows.map(({ name, of }) => [
      name,
      withInterval(of('hard')),
      digits(of('hard').p!, 3),
      withInterval(of('medium')),
      withInterval(of('easy')),
      withInterval(of('all')),
      digits(of('all').p!, 3),
    ]),
  );
}

/** The mean of several differences, seed by seed. */
function averageOver(all: readonly SeedValues[]): SeedValues & { p: number | null } {
  const values = all[0].values.map((_, seed) => sum(all, ({ values: own }) => own[seed]!) / all.length);
  return { values, ...estimate(values), ...signFlipTest(values) };
}

type Pair = Pick<PairSummary, 'variant' | 'baseline'>;

function nameOf({ variant, baseline }: Pair): string {
  return `${variant} − ${baseline}`;
}

function withInterval({ mean, low, high }: SeedValues): string {
  return `${signed(100 * mean!, 1)} (${signed(100 * low!, 1)} … ${signed(100 * high!, 1)})`;
}
