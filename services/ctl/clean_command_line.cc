#include "services/ctl/clean_command_line.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/status_macros.h"
#include "services/ctl/clean_commands.h"

namespace doppel {
namespace {

struct CleanFlags {
  std::string server;
  ClientSecurity security;
  double timeout_seconds = 30;
  bool dry_run = false;
  std::string embeddings, labels, kind, verdict, csv;
  v1::FindRequest find;
  v1::ListFindingsRequest list;
  v1::DecideRequest decide;
  v1::ApplyRequest apply;
  std::vector<std::string> ids;
  uint64_t number = 0;
  CleanShowOptions show;
};

using CleanRun = std::function<absl::Status(CleanFlags&, CleaningClient&, const Console&)>;

// Paths are opened by the miner, which may have started elsewhere.
std::string AbsolutePath(const std::string& path) {
  if (path.empty()) return path;
  std::error_code ignored;
  return std::filesystem::absolute(path, ignored).lexically_normal().string();
}

class CleanCommands {
 public:
  CleanCommands(CLI::App& app, const std::string& default_server, OutputFormat* output,
                std::function<void(const std::string&, std::function<absl::Status(const Console&)>)> choose)
      : clean_(app.add_subcommand("clean",
                                  "Find duplicate identities and wrong labels, decide, and guard plans")),
        default_server_(default_server),
        output_(output),
        choose_(std::move(choose)) {
    clean_->require_subcommand(1);
    flags_->server = default_server;
    AddFind();
    AddList();
    AddDecide();
    AddRest();
  }

 private:
  CLI::App* AddOne(const std::string& name, const std::string& text, const std::string& examples,
                   CleanRun run, const std::string& timeout = "30") {
    CLI::App* command = clean_->add_subcommand(name, text);
    command->footer("Examples:\n" + examples);
    const std::map<std::string, OutputFormat> formats = {{"table", OutputFormat::kTable},
                                                         {"wide", OutputFormat::kWide},
                                                         {"json", OutputFormat::kJson},
                                                         {"yaml", OutputFormat::kYaml}};
    command->add_option("-o,--output", *output_, "table, wide, json or yaml")
        ->transform(CLI::CheckedTransformer(formats).description(""))
        ->option_text("FORMAT [table]");
    command->add_option("--server", flags_->server, "The miner's address")
        ->envname("DOPPEL_SERVER")
        ->option_text("ADDRESS [" + default_server_ + "]");
    AddClientSecurityFlags(*command, &flags_->security);
    const CLI::Option* given =
        command->add_option("--timeout", flags_->timeout_seconds, "Seconds that the miner may take to answer")
            ->check(CLI::PositiveNumber)
            ->option_text("SECONDS [" + timeout + "]");
    command->callback([flags = flags_, choose = choose_, name, run = std::move(run), given, timeout] {
      if (given->count() == 0) flags->timeout_seconds = std::stod(timeout);
      choose("clean " + name, [flags, run](const Console& console) {
        RETURN_IF_ERROR(CheckClientSecurity(flags->security));
        const auto client =
            MakeGrpcCleaningClient(flags->server, absl::Seconds(flags->timeout_seconds), flags->security);
        return run(*flags, *client, console);
      });
    });
    return command;
  }

  void AddFind() {
    CLI::App* find = AddOne(
        "find", "Look for duplicate identities and wrong labels; replaces what was found before",
        "  doppel-trainer embed --model m --catalog c --output e.npy --labels y.npy\n"
        "  doppel clean find --embeddings e.npy --labels y.npy\n"
        "  doppel clean find                   # duplicates by the active generation's representations alone",
        [](CleanFlags& flags, CleaningClient& client, const Console& console) {
          flags.find.set_embeddings_path(AbsolutePath(flags.embeddings));
          flags.find.set_labels_path(AbsolutePath(flags.labels));
          return RunCleanFind(flags.find, client, console);
        },
        "7200");
    CLI::Option* embeddings =
        find->add_option("--embeddings", flags_->embeddings, "Of all samples, .npy on the miner's machine")
            ->option_text("FILE");
    CLI::Option* labels =
        find->add_option("--labels", flags_->labels, "The identities that go with them, .npy")
            ->option_text("FILE")
            ->needs(embeddings);
    embeddings->needs(labels);
    const auto flags = flags_;
    find->add_option_function<uint64_t>(
            "--generation", [flags](uint64_t n) { flags->find.set_generation(n); },
            "Without embeddings: whose representations")
        ->excludes(embeddings)
        ->option_text("N [the active one]");
    find->add_option_function<double>(
            "--min-precision", [flags](double p) { flags->find.set_min_precision(p); },
            "What the findings above the threshold are expected to hold")
        ->check(CLI::Range(0.01, 1.0).description(""))
        ->option_text("SHARE [0.8 of pairs, 0.9 of samples]");
    find->add_option_function<double>(
            "--min-probability", [flags](double p) { flags->find.set_min_probability(p); },
            "Keep no findings below it")
        ->check(CLI::Range(1e-6, 1.0).description(""))
        ->option_text("SHARE [0.05]");
    find->add_option_function<uint32_t>(
            "--neighbours", [flags](uint32_t k) { flags->find.set_neighbours(k); },
            "Nearest identities to compare each with")
        ->check(CLI::Range(1, 1000).description(""))
        ->option_text("K [10]");
    find->add_option_function<uint64_t>(
            "--seed", [flags](uint64_t seed) { flags->find.set_seed(seed); }, "Of the examples to learn from")
        ->option_text("N [0]");
  }

  void AddList() {
    CLI::App* list =
        AddOne("list", "Show findings, the most probable first",
               "  doppel clean list --kind duplicates --above\n  doppel clean list --all -o json",
               [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                 if (flags.kind == "duplicates") {
                   flags.list.set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
                 } else if (flags.kind == "samples") {
                   flags.list.set_kind(v1::CleaningSubject::KIND_MISLABELLED_SAMPLE);
                 }
                 if (flags.list.limit() == 0) flags.list.set_limit(50);
                 return RunCleanList(flags.list, client, console);
               });
    const auto flags = flags_;
    list->add_option("--kind", flags->kind, "duplicates or samples")
        ->check(CLI::IsMember({"duplicates", "samples"}).description(""))
        ->option_text("KIND [both]");
    list->add_flag_function(
        "--above", [flags](int64_t) { flags->list.set_above_threshold(true); },
        "Only those above the threshold");
    list->add_flag_function(
        "--all", [flags](int64_t) { flags->list.set_include_decided(true); }, "Those decided upon as well");
    list->add_option_function<uint32_t>(
            "--limit", [flags](uint32_t n) { flags->list.set_limit(n); }, "At most so many")
        ->check(CLI::PositiveNumber)
        ->option_text("N [50]");
    list->add_option_function<uint64_t>(
            "--offset", [flags](uint64_t n) { flags->list.set_offset(n); }, "Leave out the first ones")
        ->option_text("N [0]");
  }

  void AddDecide() {
    CLI::App* decide =
        AddOne("decide", "Say what is to be done about findings",
               "  doppel clean decide merge pair-12-57 pair-3-9\n"
               "  doppel clean decide keep pair-4-5 --note 'twins'\n"
               "  doppel clean decide drop sample-345",
               [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                 ASSIGN_OR_RETURN(const v1::Decision::Verdict verdict, ParseVerdict(flags.verdict));
                 flags.decide.set_verdict(verdict);
                 for (const std::string& id : flags.ids) flags.decide.add_ids(id);
                 return RunCleanDecide(flags.decide, flags.dry_run, client, console);
               });
    const auto flags = flags_;
    decide
        ->add_option("verdict", flags->verdict,
                     "merge (pairs: one and the same), keep (right as it is), ignore (do not show it "
                     "again), drop (samples: never drawn)")
        ->required()
        ->check(CLI::IsMember({"merge", "keep", "ignore", "drop"}).description(""));
    decide->add_option("id", flags->ids, "Findings, or any pair-A-B and sample-N")->required();
    decide
        ->add_option_function<std::string>(
            "--note", [flags](const std::string& note) { flags->decide.set_note(note); }, "Why")
        ->option_text("TEXT");
    decide->add_flag("--dry-run", flags->dry_run, "Show the findings, change nothing");
  }

  void AddRest() {
    CLI::App* undo = AddOne("undo", "Take a decision back: the one before it holds again",
                            "  doppel clean undo       # the last one\n  doppel clean undo 17",
                            [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                              return RunCleanUndo(flags.number, client, console);
                            });
    undo->add_option("number", flags_->number, "Of the decision; the last one if left out");

    CLI::App* exported = AddOne("export", "Write findings and decisions as CSV",
                                "  doppel clean export --csv findings.csv\n  doppel clean export | less",
                                [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                                  return RunCleanExport(flags.csv, client, console);
                                });
    exported->add_option("--csv", flags_->csv, "File to write")->option_text("FILE [standard output]");

    CLI::App* apply =
        AddOne("apply", "Publish the generation again with the guard list: plans use it at once",
               "  doppel clean apply\n  doppel clean apply --dry-run",
               [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                 flags.apply.set_generation(flags.number);
                 flags.apply.set_dry_run(flags.dry_run);
                 return RunCleanApply(flags.apply, client, console);
               });
    apply->add_option("--generation", flags_->number, "Which one")->option_text("N [the active one]");
    apply->add_flag("--dry-run", flags_->dry_run, "Show what would be published, change nothing");

    CLI::App* show = AddOne("show", "Draw a finding's images as a contact sheet",
                            "  doppel clean show pair-12-57 --catalog c --png sheet.png",
                            [](CleanFlags& flags, CleaningClient& client, const Console& console) {
                              return RunCleanShow(flags.show, client, console);
                            });
    show->add_option("id", flags_->show.id, "The finding")->required();
    show->add_option("--catalog", flags_->show.catalog, "The miner's catalog")
        ->required()
        ->option_text("DIR REQUIRED");
    show->add_option("--png", flags_->show.png, "File to write")->required()->option_text("FILE REQUIRED");
    show->add_option("--columns", flags_->show.columns, "Images in a row")
        ->check(CLI::Range(1, 100).description(""))
        ->option_text("N [12]");
    show->add_option("--cell", flags_->show.cell, "Pixels of an image's side")
        ->check(CLI::Range(8, 512).description(""))
        ->option_text("N [64]");
  }

  CLI::App* const clean_;
  const std::string default_server_;
  OutputFormat* const output_;
  const std::function<void(const std::string&, std::function<absl::Status(const Console&)>)> choose_;
  // Shared with what the parser calls later.
  const std::shared_ptr<CleanFlags> flags_ = std::make_shared<CleanFlags>();
};

}  // namespace

void AddCleanCommands(
    CLI::App& app, const std::string& default_server, OutputFormat* output,
    std::function<void(const std::string&, std::function<absl::Status(const Console&)>)> choose) {
  CleanCommands(app, default_server, output, std::move(choose));
}

}  // namespace doppel
