#include "services/ctl/report/page.h"

#include "absl/strings/str_cat.h"
#include "services/ctl/report/html.h"

namespace doppel::report {
namespace {

constexpr absl::string_view kStyle = R"css(
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #fbfbfa; --card: #ffffff; --rule: #e1e4e8;
  --c0: #2563eb; --c1: #d9600a; --c2: #0f8a5f; --c3: #a3309b; --c4: #8a6d00; --c5: #4b5563; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b4; --paper: #14171c; --card: #1b1f26; --rule: #2f3640;
    --c0: #74a5ff; --c1: #ff9f57; --c2: #4fd0a0; --c3: #e58be0; --c4: #e0c35c; --c5: #aab3c0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1rem 0 0.5rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.8rem; padding-top: 0.8rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.6rem 0; }
ul.verdict { max-width: 52rem; padding-left: 1.2rem; font-size: 1.05rem; } ul.verdict li { margin: 0.4rem 0; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; font-size: 0.92rem; } nav a { color: var(--c0); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.92rem; margin: 0.6rem 0; }
th, td { padding: 0.35rem 0.8rem; border-bottom: 1px solid var(--rule); text-align: left; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: 0.9rem 0.9rem 0.7rem; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
figcaption { color: var(--soft); font-size: 0.85rem; margin-top: 0.3rem; }
svg.plot { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-family: inherit; } svg .title { font-size: 15px; font-weight: 600; }
svg .tick, svg .label { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; }
.band { opacity: 0.16; stroke: none; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.1rem; font-size: 0.88rem; margin-top: 0.3rem; }
.key { display: inline-flex; align-items: center; gap: 0.4rem; }
.row { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0.5rem 0; }
.face { display: flex; flex-direction: column; align-items: center; width: 5.2rem; font-size: 0.72rem; line-height: 1.35; }
.face img { width: 4.5rem; height: 4.5rem; object-fit: contain; background: #000; border-radius: 4px; }
.face b { font-weight: 500; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.face i { font-style: normal; color: var(--soft); font-variant-numeric: tabular-nums; }
.anchor { margin-right: 0.6rem; } .anchor img { outline: 2px solid var(--c1); outline-offset: 1px; }
pre { overflow-x: auto; padding: 0.9rem; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  font: 0.85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
footer { margin-top: 3rem; color: var(--soft); font-size: 0.85rem; }
)css";

}  // namespace

std::string Page(absl::string_view title, absl::string_view body) {
  return absl::StrCat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                      Escape(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n", body,
                      "</body>\n</html>\n");
}

}  // namespace doppel::report
