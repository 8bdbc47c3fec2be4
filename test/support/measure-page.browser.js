// Runs in a browser: measures the layout of a report, for test/integration/phone.test.ts.

globalThis.measurePage = (page) => {
  const all = (selector) => [...page.querySelectorAll(selector)];
  const texts = all('.chart text').map((text) => {
    const svg = text.closest('svg');
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const box = text.getBBox();
    const isOutside = box.x < -1 || box.x + box.width > svg.viewBox.baseVal.width + 1;
    return { size: scale * Number.parseFloat(getComputedStyle(text).fontSize), text: text.textContent, isOutside };
  });
  // A number, perhaps with its unit.
  const isNumber = (text) => /^[-−+]?[\d.,]+( ?(%|s|min|h))?$/.test(text.trim());
  const linesOf = (element) => {
    const range = page.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
  };
  const broken = all('.tile b, td.number').filter((element) => {
    const isTorn = isNumber(element.innerText) && linesOf(element) > 1;
    return isTorn || element.scrollWidth > element.clientWidth + 1;
  });
  return {
    width: page.documentElement.scrollWidth,
    headings: all('h2').map(({ innerText }) => innerText),
    smallestText: Math.min(...texts.map(({ size }) => size)),
    charts: all('.chart').length,
    outside: texts.filter(({ isOutside }) => isOutside).map(({ text }) => text),
    broken: broken.map(({ innerText }) => innerText),
    wideTables: all('.table').filter((table) => table.scrollWidth > table.clientWidth + 1).length,
  };
};
