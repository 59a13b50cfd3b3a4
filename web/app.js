/*
 * The live page. Asks GET ops/live once a second and shows the answer, whose shape is:
 *
 * {
 *   "tienda": "..",                      name of the shop
 *   "uptime_ms": n,
 *   "ventas": {
 *     "total": n,                        accepted since the start
 *     "por_segundo": n,
 *     "serie": [60 ints],                one per second, the newest last
 *     "atraso_ledger": n,                accepted, not yet in the ledger
 *     "p50_us": n, "p99_us": n           checkout latency, microseconds
 *   },
 *   "ultimas": [                         newest first
 *     { "venta_id", "fecha", "ubicacion", "items": n, "total": "1234.50",
 *       "estado": "procesando" | "registrada" | .. }
 *   ],
 *   "stock": [
 *     { "sku", "nombre", "talle", "color", "tipo", "ubicacion",
 *       "disponible": "12.000", "inicial": "40.000" }
 *   ],
 *   "actores": [
 *     { "name", "kind", "parent", "state", "depth", "capacity",
 *       "handled", "failed", "restarts", "last_error" }
 *   ]
 * }
 *
 * Anything may be missing or null. Everything is written with textContent, so no name in the data is ever markup;
 * sizes are set through the style object, which a strict Content-Security-Policy allows.
 */
'use strict';

(() => {
  const EVERY_MS = 1000;
  const TIMEOUT_MS = 4000;
  const SALES = 12;
  const SHELF = 240; // more cards than this is a list nobody reads: the filter finds the rest
  const LOW = 0.2;

  const $ = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat('es-AR', { maximumFractionDigits: 0 });
  const decimals = new Intl.NumberFormat('es-AR', { maximumFractionDigits: 3 });
  const oneDecimal = new Intl.NumberFormat('es-AR', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const pesos = new Intl.NumberFormat('es-AR', { style: 'currency', currency: 'ARS' });
  const clock = new Intl.DateTimeFormat('es-AR', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

  const number = (value) => (Number.isFinite(Number(value)) ? Number(value) : 0);
  const list = (value) => (Array.isArray(value) ? value : []);

  /** Sets text only when it changed, so that selections and screen readers are left in peace. */
  function text(node, value) {
    if (node.textContent !== value) node.textContent = value;
  }

  function make(tag, className, content) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (content !== undefined) node.textContent = content;
    return node;
  }

  function duration(micros) {
    const us = number(micros);
    if (us === 0) return '–';
    if (us < 1000) return `${whole.format(us)} µs`;
    if (us < 1e6) return `${oneDecimal.format(us / 1000)} ms`;
    return `${oneDecimal.format(us / 1e6)} s`;
  }

  function uptime(ms) {
    const seconds = Math.floor(number(ms) / 1000);
    const days = Math.floor(seconds / 86400);
    const part = (n) => String(Math.floor(n)).padStart(2, '0');
    const time = `${part((seconds % 86400) / 3600)}:${part((seconds % 3600) / 60)}:${part(seconds % 60)}`;
    return `En marcha hace ${days > 0 ? `${days} d ` : ''}${time}`;
  }

  /**
   * Keeps the children of a parent in step with a list: one node per key, made once and then only updated.
   * The node's place follows the list.
   */
  function keyed(parent, items, keyOf, create, update) {
    const old = new Map();
    for (const node of parent.children) old.set(node.dataset.key, node);
    let place = parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let node = old.get(key);
      const fresh = !node;
      if (fresh) {
        node = create(item);
        node.dataset.key = key;
      } else {
        old.delete(key);
      }
      if (node === place) place = place.nextElementSibling;
      else parent.insertBefore(node, place);
      update(node, item, fresh);
    }
    for (const node of old.values()) node.remove();
  }

  function flash(node, className) {
    node.classList.remove('sube', 'baja');
    void node.offsetWidth; // restarts the animation
    node.classList.add(className);
  }

  // ---------------------------------------------------------------- figures

  function showFigures(ventas) {
    text($('total'), whole.format(number(ventas.total)));
    text($('por-segundo'), decimals.format(number(ventas.por_segundo)));
    const lag = number(ventas.atraso_ledger);
    text($('atraso'), whole.format(lag));
    text($('atraso-nota'), lag === 0 ? 'todo registrado' : lag === 1 ? 'venta por registrar' : 'ventas por registrar');
    $('cifra-atraso').classList.toggle('alerta', lag > 1000);
    text($('p50'), duration(ventas.p50_us));
    text($('p99'), duration(ventas.p99_us));

    const series = list(ventas.serie).slice(-60).map(number);
    while (series.length < 60) series.unshift(0);
    const peak = Math.max(...series);
    const points = series.map((value, x) => `${x},${(19 - (18 * value) / Math.max(peak, 1)).toFixed(2)}`).join(' ');
    $('serie-linea').setAttribute('points', points);
    $('serie-area').setAttribute('points', `0,20 ${points} 59,20`);
    text($('pico'), `últimos 60 s · pico ${decimals.format(peak)}`);
  }

  // ---------------------------------------------------------------- sales

  const STATES = { procesando: 'espera', registrada: 'bien', anulada: 'mal', fallida: 'mal' };

  let lastSales = new Set();

  function showSales(ultimas) {
    const rows = ultimas.slice(0, SALES);
    // With more new sales a second than rows, every row would flash all the time.
    const known = rows.some((sale) => lastSales.has(String(sale.venta_id)));
    lastSales = new Set(rows.map((sale) => String(sale.venta_id)));
    $('ultimas-vacio').hidden = rows.length > 0;
    document.querySelector('.ventas').hidden = rows.length === 0;
    keyed($('ultimas'), rows, (sale) => String(sale.venta_id), (sale) => {
      const row = make('tr');
      const when = new Date(sale.fecha);
      const time = make('time', '', Number.isNaN(when.getTime()) ? '–' : clock.format(when));
      time.dateTime = String(sale.fecha ?? '');
      const hour = make('td');
      hour.append(time);
      // The end of a UUIDv7 is its random part; the beginning is the same for all sales of a minute.
      const id = make('td', 'codigo', String(sale.venta_id ?? '').slice(-8));
      id.title = String(sale.venta_id ?? '');
      const state = make('td');
      state.append(make('span', 'sello'));
      row.append(
        hour, id,
        make('td', 'lugar', sale.ubicacion ?? '–'),
        make('td', 'num', whole.format(number(sale.items))),
        make('td', 'num', pesos.format(number(sale.total))),
        state,
      );
      return row;
    }, (row, sale, fresh) => {
      const seal = row.lastElementChild.firstElementChild;
      const state = String(sale.estado ?? '–');
      text(seal, state);
      seal.className = `sello ${STATES[state] ?? ''}`;
      if (fresh && known) row.classList.add('nueva');
    });
  }

  // ---------------------------------------------------------------- stock

  let lastStock = [];

  function unitOf(item) {
    return item.tipo === 'pesable' ? ' kg' : '';
  }

  function showStock(stock) {
    lastStock = stock;
    const wanted = $('filtro').value.trim().toLocaleLowerCase('es');
    const matches = (item) => [item.nombre, item.sku, item.talle, item.color, item.ubicacion]
      .some((field) => String(field ?? '').toLocaleLowerCase('es').includes(wanted));
    const found = wanted ? stock.filter(matches) : stock;
    const low = stock.filter((item) => level(item) !== 'normal').length;
    $('stock-vacio').hidden = stock.length > 0;
    const of = found.length === stock.length ? whole.format(stock.length) : `${whole.format(found.length)} de ${whole.format(stock.length)}`;
    text($('stock-resumen'), stock.length === 0 ? '' : `${of} artículos${low > 0 ? ` · ${whole.format(low)} con stock bajo` : ''}`);

    // The place is worth its room only when there is more than one.
    $('estante').classList.toggle('un-lugar', new Set(stock.map((item) => item.ubicacion)).size < 2);

    keyed($('estante'), found.slice(0, SHELF), (item) => `${item.sku}\n${item.ubicacion}`, (item) => {
      const card = make('li', 'articulo');
      const name = make('p', 'nombre', item.nombre ?? item.sku);
      name.title = `${item.nombre ?? ''} · ${item.sku}`;
      const variant = [item.color, item.talle].filter(Boolean).join(' · ');
      const bar = make('div', 'barra');
      bar.append(make('div', 'nivel'));
      const detail = make('p', 'detalle', variant || item.sku);
      detail.append(make('span', 'donde', item.ubicacion ?? ''));
      card.append(name, detail, make('p', 'cantidad'), bar);
      return card;
    }, (card, item, fresh) => {
      const left = number(item.disponible);
      const [, , amount, bar] = card.children;
      const before = card.dataset.left;
      text(amount, left <= 0 ? 'agotado' : decimals.format(left) + unitOf(item));
      card.className = `articulo ${level(item)}`;
      bar.firstElementChild.style.width = `${Math.max(0, Math.min(100, share(item) * 100)).toFixed(1)}%`;
      if (!fresh && before !== String(left)) flash(card, Number(before) < left ? 'sube' : 'baja');
      card.dataset.left = String(left);
    });
  }

  function share(item) {
    const full = number(item.inicial);
    return full > 0 ? number(item.disponible) / full : number(item.disponible) > 0 ? 1 : 0;
  }

  function level(item) {
    if (number(item.disponible) <= 0) return 'agotado';
    return share(item) <= LOW ? 'bajo' : 'normal';
  }

  // ---------------------------------------------------------------- actors

  const ACTOR = {
    running: ['en marcha', 'bien'], idle: ['en espera', 'bien'], starting: ['arrancando', 'espera'],
    restarting: ['reiniciando', 'espera'], backoff: ['en pausa', 'espera'], draining: ['vaciando', 'espera'],
    stopping: ['deteniendo', 'espera'], stopped: ['detenido', 'mal'], failed: ['caído', 'mal'],
    frozen: ['trabado', 'mal'], escalated: ['escalado', 'mal'], given_up: ['abandonado', 'mal'],
  };

  /** Depth-first, children after their parent; an actor whose parent is unknown is a root. Never loops. */
  function tree(actores) {
    const names = new Set(actores.map((actor) => actor.name));
    const children = new Map();
    for (const actor of actores) {
      const parent = names.has(actor.parent) && actor.parent !== actor.name ? actor.parent : null;
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(actor);
    }
    const rows = [];
    const seen = new Set();
    const visit = (parent, depth) => {
      for (const actor of children.get(parent) ?? []) {
        if (seen.has(actor)) continue;
        seen.add(actor);
        rows.push({ actor, depth });
        visit(actor.name, depth + 1);
      }
    };
    visit(null, 0);
    for (const actor of actores) if (!seen.has(actor)) rows.push({ actor, depth: 0 });
    return rows;
  }

  const LABELS = ['', 'Estado', 'Casilla', 'Atendidos', 'Fallidos', 'Reinicios', 'Último error'];

  function showActors(actores) {
    $('actores-vacio').hidden = actores.length > 0;
    document.querySelector('.actores').hidden = actores.length === 0;
    const ill = actores.filter((actor) => (ACTOR[actor.state] ?? ['', 'mal'])[1] === 'mal').length;
    text($('actores-resumen'), actores.length === 0 ? '' : `${whole.format(actores.length)} actores${ill > 0 ? ` · ${whole.format(ill)} con problemas` : ''}`);
    keyed($('arbol'), tree(actores), ({ actor }) => String(actor.name), () => {
      const row = make('tr');
      for (const label of LABELS) {
        const cell = make(label === '' ? 'th' : 'td');
        if (label) cell.dataset.label = label;
        else cell.scope = 'row';
        row.append(cell);
      }
      const [who, state, mailbox, handled, failed, restarts, error] = row.children;
      who.append(make('span', 'rama'), make('span', 'quien'), make('span', 'clase'));
      state.append(make('span', 'sello'));
      const bar = make('div', 'barra');
      bar.append(make('div', 'nivel'));
      mailbox.append(bar, make('span', 'cuenta'));
      mailbox.className = 'casilla';
      for (const cell of [handled, failed, restarts]) cell.className = 'num';
      error.className = 'error';
      return row;
    }, (row, { actor, depth }) => {
      const [who, state, mailbox, handled, failed, restarts, error] = row.children;
      row.style.setProperty('--hondo', String(Math.min(depth, 6)));
      text(who.children[1], String(actor.name));
      text(who.children[2], actor.kind ?? '');
      const [word, tone] = ACTOR[actor.state] ?? [String(actor.state ?? '–'), 'mal'];
      text(state.firstElementChild, word);
      state.firstElementChild.className = `sello ${tone}`;
      const full = number(actor.capacity) > 0 ? number(actor.depth) / number(actor.capacity) : 0;
      const bar = mailbox.firstElementChild;
      bar.className = `barra ${full >= 0.9 ? 'lleno' : full >= 0.5 ? 'medio' : ''}`;
      bar.firstElementChild.style.width = `${Math.min(100, full * 100).toFixed(1)}%`;
      text(mailbox.lastElementChild, `${whole.format(number(actor.depth))} / ${whole.format(number(actor.capacity))}`);
      text(handled, whole.format(number(actor.handled)));
      text(failed, whole.format(number(actor.failed)));
      text(restarts, whole.format(number(actor.restarts)));
      failed.classList.toggle('resalta', number(actor.failed) > 0);
      restarts.classList.toggle('resalta', number(actor.restarts) > 0);
      text(error, actor.last_error || '–');
      error.title = actor.last_error || '';
      error.classList.toggle('nada', !actor.last_error);
    });
  }

  // ---------------------------------------------------------------- asking

  let lostSince = null;
  let lastAnswer = null;
  let told = 0;

  function connection(state) {
    if (document.body.dataset.conexion !== state) document.body.dataset.conexion = state;
    const words = { conectando: 'Conectando…', viva: 'En vivo', perdida: 'Conexión perdida' };
    text($('conexion'), words[state]);
  }

  function lost(reason) {
    const now = Date.now();
    lostSince ??= now;
    connection('perdida');
    const age = lastAnswer === null ? '' : ` Lo que se ve es de hace ${Math.round((now - lastAnswer) / 1000)} s.`;
    text($('aviso'), `Sin respuesta del servidor (${reason}).${age} Reintentando cada segundo…`);
    $('aviso').hidden = false;
  }

  function show(data) {
    lostSince = null;
    lastAnswer = Date.now();
    connection('viva');
    $('aviso').hidden = true;
    const name = data.tienda || 'Blend';
    text($('tienda'), name);
    if (document.title !== `${name} · Blend`) document.title = `${name} · Blend`;
    text($('uptime'), uptime(data.uptime_ms));
    const ventas = data.ventas ?? {};
    showFigures(ventas);
    showSales(list(data.ultimas));
    showStock(list(data.stock));
    showActors(list(data.actores));
    // Spoken now and then only: a figure a second would make the page unusable with a screen reader.
    if (Date.now() - told > 30000) {
      told = Date.now();
      text($('relato'), `${whole.format(number(ventas.total))} ventas, ${decimals.format(number(ventas.por_segundo))} por segundo, ${whole.format(number(ventas.atraso_ledger))} por registrar.`);
    }
  }

  async function ask() {
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), TIMEOUT_MS);
    try {
      const answer = await fetch('ops/live', { signal: giveUp.signal, cache: 'no-store', headers: { accept: 'application/json' } });
      if (!answer.ok) throw new Error(`estado ${answer.status}`);
      show(await answer.json());
    } catch (error) {
      lost(error.name === 'AbortError' ? 'tardó demasiado' : error instanceof TypeError ? 'no se puede conectar' : error.message);
    } finally {
      clearTimeout(timer);
    }
  }

  /** One question at a time, a second apart, none while nobody looks. */
  async function watch() {
    for (;;) {
      const began = performance.now();
      if (!document.hidden) await ask();
      const rest = Math.max(100, EVERY_MS - (performance.now() - began));
      await new Promise((wake) => {
        setTimeout(wake, rest);
        document.addEventListener('visibilitychange', wake, { once: true });
      });
    }
  }

  $('filtro').addEventListener('input', () => showStock(lastStock));
  watch();
})();
