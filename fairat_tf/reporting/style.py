"""The style sheet of every page: light and dark, wide and narrow, screen and paper; no remote asset."""

CSS = """
:root { color-scheme: light dark; --paper:#fff; --ink:#1b1f24; --soft:#59636e; --line:#d5dae0; --card:#f5f7f9;
  --clean:#9db7d5; --robust:#2563a8; --worst:#b4400f; --good:#1a7f37; --warn:#8a5a00; --bad:#b42318;
  --s0:#0072b2; --s1:#d55e00; --s2:#009e73; --s3:#b0578d; --s4:#b07800; --s5:#5b6570; }
@media (prefers-color-scheme: dark) { :root { --paper:#12161b; --ink:#e8ebee; --soft:#a3adb8; --line:#353c45;
  --card:#1b2128; --clean:#47627f; --robust:#6aaaf0; --worst:#f2935c; --good:#5fc97b; --warn:#e2b04a;
  --bad:#ff8a80; --s0:#56b4e9; --s1:#f2935c; --s2:#2fc79b; --s3:#d890ba; --s4:#f0c04a; --s5:#a3adb8; } }
* { box-sizing:border-box }
body { margin:0 auto; padding:1.5rem 1rem 4rem; max-width:60rem; background:var(--paper); color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
h1 { font-size:1.6rem; line-height:1.25; margin:.2rem 0 }
h2 { font-size:1.2rem; margin:2.2rem 0 .5rem; border-bottom:1px solid var(--line); padding-bottom:.2rem }
h3 { font-size:1rem; margin:1.2rem 0 .3rem }
p, li { max-width:46rem } .soft { color:var(--soft) } small, .small { font-size:.85rem }
.lead { font-size:1.15rem; border-left:.3rem solid var(--robust); padding-left:.9rem }
.lead.broken { border-color:var(--bad) } .lead.doubt { border-color:var(--warn) }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr)); gap:.6rem; margin:1rem 0 }
.tile { background:var(--card); border:1px solid var(--line); border-radius:.5rem; padding:.6rem .8rem }
.tile b { display:block; font-size:1.35rem; line-height:1.2; overflow-wrap:anywhere }
  .tile span { color:var(--soft);
  font-size:.85rem; overflow-wrap:anywhere }
.row { display:grid; grid-template-columns:clamp(5.5rem,30%,10rem) 1fr 3.9rem; gap:.15rem .6rem;
  align-items:center; margin-bottom:.45rem; break-inside:avoid }
.row .name { grid-row:span 2; overflow-wrap:anywhere; line-height:1.2 } .row .value { text-align:right;
  white-space:nowrap;
  font-variant-numeric:tabular-nums; font-size:.85rem }
.row .single { grid-row:auto }
svg.bar { width:100%; height:.85rem; display:block; overflow:visible }
svg .track { fill:var(--card) } svg .clean { fill:var(--clean) } svg .robust { fill:var(--robust) }
svg .worst { fill:var(--worst) } svg .whisker { stroke:var(--ink); stroke-width:1.5 }
svg .mark { stroke:var(--ink); stroke-dasharray:3 3 }
svg .halo { stroke:var(--paper); stroke-width:4 } svg .grid { stroke:var(--line) }
svg .tick { fill:var(--soft); font-size:11px } svg.lines { width:100%; height:17rem; overflow:visible }
svg line.s0,svg circle.s0{stroke:var(--s0)} svg line.s1,svg circle.s1{stroke:var(--s1)}
svg line.s2,svg circle.s2{stroke:var(--s2)} svg line.s3,svg circle.s3{stroke:var(--s3)}
svg line.s4,svg circle.s4{stroke:var(--s4)} svg line.s5,svg circle.s5{stroke:var(--s5)}
svg line.s1,svg line.s3,svg line.s5 { stroke-dasharray:5 4 } svg line.thin { stroke-dasharray:none }
svg line[class^=s] { stroke-width:2 } svg line.thin { stroke-width:1 } svg circle { fill:var(--paper);
  stroke-width:2 }
.key { display:inline-block; width:1.8rem; height:.25rem; overflow:visible;
  vertical-align:middle; margin-right:.35rem }
i.clean{background:var(--clean);height:.7rem}
i.robust{background:var(--robust);height:.7rem} i.worst{background:var(--worst);height:.7rem}
figure { margin:.6rem 0 } .legend { display:flex; flex-wrap:wrap; gap:.3rem 1.2rem; font-size:.85rem;
  color:var(--soft) }
.wide { overflow-x:auto; margin:.6rem 0 }
table { border-collapse:collapse; font-size:.9rem; font-variant-numeric:tabular-nums }
th, td { padding:.25rem .55rem; border-bottom:1px solid var(--line); text-align:right; vertical-align:top }
th:first-child, td:first-child, .text td, .text th { text-align:left }
td { white-space:nowrap } .text td { white-space:normal }
.groups thead th { min-width:5.5rem; max-width:9rem; overflow-wrap:anywhere }
tr.total td, tr.total th { border-top:2px solid var(--line); font-weight:600 } td.low { color:var(--worst);
  font-weight:700 } td.clear { font-weight:700 }
.text td { overflow-wrap:anywhere; min-width:4.5rem }
.heat td, .heat th { padding:.2rem .3rem; text-align:center; border:1px solid var(--paper); font-size:.8rem }
.heat th { font-weight:400; color:var(--soft); border:0; max-width:6rem; overflow:hidden;
  text-overflow:ellipsis }
.heat thead th { writing-mode:vertical-rl; transform:rotate(180deg); text-align:left; max-height:7rem;
  max-width:none }
.heat td { background:color-mix(in srgb, var(--worst) calc(var(--v)*85%), var(--card)) }
.heat td.right { background:color-mix(in srgb, var(--robust) calc(var(--v)*70%), var(--card)) }
.heat td.strong { color:var(--paper) }
.gallery { display:grid; grid-template-columns:repeat(auto-fill,minmax(15.5rem,1fr)); gap:.8rem }
.shown { background:var(--card); border:1px solid var(--line); border-radius:.5rem; padding:.6rem; margin:0 }
.shown div { display:grid; grid-template-columns:repeat(3,1fr); gap:.4rem }
.shown img { width:100%; image-rendering:pixelated; border-radius:.2rem; display:block }
.shown figcaption { font-size:.85rem; margin-top:.4rem; overflow-wrap:anywhere }
.pass { color:var(--good) } .warn { color:var(--warn) } .fail { color:var(--bad) }
  .pass, .warn, .fail { font-weight:600; white-space:nowrap }
.text .pass, .text .warn, .text .fail { white-space:nowrap }
.text code { overflow-wrap:break-word }
pre { background:var(--card); border:1px solid var(--line); border-radius:.5rem; padding:.7rem;
  overflow-x:auto;
  font-size:.85rem; white-space:pre-wrap; overflow-wrap:anywhere }
dl { display:grid; grid-template-columns:clamp(6rem,30%,12rem) 1fr; gap:.2rem .8rem; font-size:.9rem }
dt { color:var(--soft) } dd { margin:0; overflow-wrap:anywhere }
@media print { :root { color-scheme:light } body { max-width:none; font-size:11pt; padding:0 }
  .wide { overflow:visible }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact } h2, h3 { break-after:avoid }
  figure, .shown, .tile, tr { break-inside:avoid } }
"""
