// Sees CLI11, as control_command_line.cc, clean_command_line.cc and representation_commands.cc do.
#include "services/ctl/command_line.h"

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/net/client_security.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/clean_command_line.h"
#include "services/ctl/console.h"
#include "services/ctl/control_command_line.h"
#include "services/ctl/interrupt.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/report_command.h"
#include "services/ctl/representation_commands.h"
#include "services/ctl/state_commands.h"

namespace doppel {
namespace {

constexpr double kDefaultTimeoutSeconds = 30;

// Everything that flags can say; one command reads its own part.
struct Flags {
  OutputFormat output = OutputFormat::kTable;
  std::string server;
  ClientSecurity security;
  double timeout_seconds = kDefaultTimeoutSeconds;
  bool dry_run = false;
  ImportOptions import;
  InspectOptions inspect;
  PackCommandOptions pack;
  ReclusterOptions recluster;
  std::string model;
  bool no_wait = false;
  uint64_t generation = 0;
  std::string operation;
  ReportOptions report;
};

// Where the representations come from.
void AddSource(CLI::App* command, v1::ReclusterRequest* request) {
  const std::map<std::string, v1::RepresentationSource::Kind> kinds = {
      {"full", v1::RepresentationSource::KIND_FULL},
      {"sampled", v1::RepresentationSource::KIND_SAMPLED},
      {"live", v1::RepresentationSource::KIND_LIVE}};
  command
      ->add_option_function<std::string>(
          "--source",
          [request, kinds](const std::string& kind) {
            request->mutable_representation_source()->set_kind(kinds.at(kind));
          },
          "full: embed all samples; sampled: some of each identity; live: take what trainers have reported")
      ->check(CLI::IsMember({"full", "sampled", "live"}).description(""))
      ->option_text("SOURCE [full; sampled with --samples-per-identity]");
  command
      ->add_option_function<double>(
          "--min-coverage",
          [request](double share) {
            // In the message, 0 stands for the default.
            request->mutable_representation_source()->set_min_coverage(share == 0 ? -1 : share);
          },
          "live: share of the identities that must have been reported")
      ->check(CLI::Range(0.0, 1.0).description(""))
      ->option_text("SHARE [0.9]");
  command
      ->add_option_function<uint64_t>(
          "--max-age-steps",
          [request](uint64_t steps) { request->mutable_representation_source()->set_max_age_steps(steps); },
          "full, sampled: embed only identities that were not reported within so many steps")
      ->option_text("N [embed all]");
}

using Run = std::function<absl::Status(const Console&)>;

class CommandLine {
 public:
  explicit CommandLine(const CommandLineEnvironment& environment) : environment_(environment) {
    app_.name("doppel");
    app_.require_subcommand(1);
    app_.fallthrough(false);
    app_.footer(
        "Exit status: 0 fine, 1 error, 2 wrong usage, 3 a condition is not met.\n"
        "`doppel COMMAND --help` shows examples. NO_COLOR turns colours off.");
    AddImport();
    AddInspect();
    AddPack();
    AddRecluster();
    AddGenerations();
    AddOperations();
    AddControlCommands(
        [this](const std::string& name, const std::string& description, const std::string& examples,
               RemoteRun run) { return AddRemote(name, description, examples, std::move(run)); });
    AddReport();
    AddStateCommands([this](const std::string& name, const std::string& description,
                            const std::string& examples,
                            Run run) { return Add(name, description, examples, std::move(run)); });
    AddCleanCommands(app_, environment_.default_server, &flags_.output,
                     [this](const std::string& name, Run run) { name_ = name, run_ = std::move(run); });
    AddRepresentationCommands([this](const std::string& name, const std::string& description,
                                     const std::string& examples,
                                     std::function<absl::Status(MiningClient&, const Console&)> run) {
      return AddRemote(name, description, examples, std::move(run));
    });
  }

  int Main(int argc, const char* const* argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app_.exit(error, environment_.out, environment_.err) == 0 ? 0 : 2;
    }
    const Console console{environment_.out,    environment_.err,   flags_.output,
                          environment_.colour, environment_.quiet, environment_.terminal};
    absl::Status status = CheckClientSecurity(flags_.security);
    if (flags_.security.enabled()) {
      environment_.connect = [this](const std::string& address, absl::Duration deadline) {
        return MakeSecuredMiningClient(address, deadline, flags_.security);
      };
    }
    if (status.ok()) status = run_(console);
    if (!status.ok()) environment_.err << "doppel " << name_ << ": " << status.message() << "\n";
    return ExitCode(status);
  }

 private:
  CLI::App* Add(const std::string& name, const std::string& description, const std::string& examples, Run run,
                const std::string& format_flags = "-o,--output") {
    CLI::App* command = app_.add_subcommand(name, description);
    command->footer("Examples:\n" + examples);
    const std::map<std::string, OutputFormat> formats = {{"table", OutputFormat::kTable},
                                                         {"wide", OutputFormat::kWide},
                                                         {"json", OutputFormat::kJson},
                                                         {"yaml", OutputFormat::kYaml}};
    command->add_option(format_flags, flags_.output, "table, wide, json or yaml")
        ->transform(CLI::CheckedTransformer(formats).description(""))
        ->option_text("FORMAT [table]");
    command->callback([this, name, run = std::move(run)] {
      name_ = name;
      run_ = run;
    });
    return command;
  }

  // A command that talks to a miner.
  CLI::App* AddRemote(const std::string& name, const std::string& description, const std::string& examples,
                      std::function<absl::Status(MiningClient&, const Console&)> run) {
    CLI::App* command =
        Add(name, description, examples, [this, run = std::move(run)](const Console& console) {
          const std::unique_ptr<MiningClient> client =
              environment_.connect(flags_.server, absl::Seconds(flags_.timeout_seconds));
          return run(*client, console);
        });
    flags_.server = environment_.default_server;
    command->add_option("--server", flags_.server, "The miner's address")
        ->envname("DOPPEL_SERVER")
        ->option_text("ADDRESS [" + environment_.default_server + "]");
    AddClientSecurityFlags(*command, &flags_.security);
    command->add_option("--timeout", flags_.timeout_seconds, "Seconds that the miner may take to answer")
        ->check(CLI::PositiveNumber)
        ->option_text("SECONDS [30]");
    return command;
  }

  void AddDryRun(CLI::App* command) {
    command->add_flag("--dry-run", flags_.dry_run, "Show what would happen, change nothing");
  }

  void AddImport();
  void AddInspect();
  void AddPack();
  void AddRecluster();
  void AddGenerations();
  void AddOperations();
  void AddReport();

  CommandLineEnvironment environment_;
  CLI::App app_{"Catalogs, subspaces and generations of look-alike identities."};
  Flags flags_;
  std::string name_;
  Run run_;
};

void CommandLine::AddImport() {
  CLI::App* command =
      Add("import", "Import images into a catalog",
          "  doppel import webdataset /data/glyphs --catalog /data/glyphs.catalog\n"
          "  doppel import webdataset '/data/x-{000000..000146}.tar' --catalog x.catalog --strict\n"
          "  doppel import imagefolder ~/faces --catalog faces.catalog -o json\n"
          "  doppel import market1501 ~/Market-1501-v15.09.15 --catalog market.catalog\n"
          "  doppel import csv ~/sop/df.csv --root ~/sop --catalog sop.catalog\n"
          "  doppel import recordio ~/faces_emore/train.rec --catalog ms1m.catalog\n"
          "  doppel import imagefolder ~/faces-of-may --catalog faces.catalog --append\n"
          "  doppel import auto ~/lfw --catalog lfw.catalog --dry-run",
          [this](const Console& console) {
            flags_.import.dry_run = flags_.dry_run;
            return RunImport(flags_.import, console);
          });
  command->add_option("format", flags_.import.format, absl::StrJoin(DatasetFormats(), ", "))
      ->required()
      ->check(CLI::IsMember(DatasetFormats()).description(""));
  command
      ->add_option("path", flags_.import.path,
                   "Folder; tar file, or pattern of them; .csv; .rec (its .idx beside it)")
      ->required();
  command->add_option("--root", flags_.import.root, "csv: the folder that relative paths start from")
      ->option_text("DIR [the CSV file's]");
  command->add_flag("--follow-links", flags_.import.follow_links,
                    "Take links that lead out of the data's folder as well");
  command->add_flag_function(
      "--no-resume", [this](int64_t) { flags_.import.resume = false; },
      "Read everything again, whatever an import that was cut off has read already");
  command->add_option("--catalog", flags_.import.catalog, "Directory to write")
      ->required()
      ->option_text("DIR REQUIRED");
  command->add_flag("--strict", flags_.import.strict, "Fail at the first record that cannot be used");
  CLI::Option* force =
      command->add_flag("--force", flags_.import.force, "Replace a catalog that holds other data");
  CLI::Option* append = command->add_flag("--append", flags_.import.append,
                                          "Add to the catalog that is there: identities and samples keep "
                                          "their numbers, known images are left out. "
                                          "A miner takes the new version up at its next recluster");
  append->excludes(force);
  command
      ->add_option("--split", flags_.import.split,
                   "--append: the split of all samples, instead of what the data says")
      ->needs(append);
  command->add_option("--threads", flags_.import.threads, "Files read side by side")
      ->check(CLI::Range(1, 1024).description(""))
      ->option_text("N [2]");
  AddDryRun(command);
}

void CommandLine::AddInspect() {
  CLI::App* command = Add("inspect", "Show what a catalog holds",
                          "  doppel inspect --catalog /data/glyphs.catalog\n"
                          "  doppel inspect --catalog /data/glyphs.catalog --identity U+672A -o wide\n"
                          "  doppel inspect --catalog /data/glyphs.catalog --verify",
                          [this](const Console& console) { return RunInspect(flags_.inspect, console); });
  command->add_option("--catalog", flags_.inspect.catalog, "Directory of the catalog")
      ->required()
      ->option_text("DIR REQUIRED");
  command->add_option("--identity", flags_.inspect.identity, "Show the samples of this one")
      ->option_text("NAME");
  command->add_flag("--verify", flags_.inspect.verify,
                    "Check the tables and every sample against their checksums");
  command->add_option("--threads", flags_.inspect.threads, "Threads that verify")
      ->check(CLI::Range(1, 1024).description(""))
      ->option_text("N [2]");
}

void CommandLine::AddPack() {
  CLI::App* command = Add(
      "pack", "Copy a catalog's images into tar shards, an identity's side by side",
      "  doppel pack --catalog faces.catalog --output /fast/faces\n"
      "  doppel pack --catalog faces.catalog --output /fast/faces112 --raw 112x112 --channels 3",
      [this](const Console& console) { return RunPack(flags_.pack, console); }, "-o");
  PackCommandOptions& pack = flags_.pack;
  command->add_option("--catalog", pack.catalog, "Catalog to read")->required()->option_text("DIR REQUIRED");
  command->add_option("--output", pack.output, "Directory to write: shards, and a catalog of them")
      ->required()
      ->option_text("DIR REQUIRED");
  CLI::Option* raw = command->add_option("--raw", pack.raw, "Decode to pixels of this size, once and for all")
                         ->option_text("HEIGHTxWIDTH [the images as they are]");
  command->add_option("--channels", pack.channels, "1 (grey) or 3 (RGB)")
      ->needs(raw)
      ->check(CLI::IsMember({1, 3}).description(""))
      ->option_text("N REQUIRED with --raw");
  command->add_option("--shard-size", pack.shard_bytes, "Bytes of a shard to aim for")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->option_text("SIZE [1GiB]");
  command->add_flag("--skip-damaged", pack.skip_damaged,
                    "Leave out samples that cannot be read or decoded, instead of failing");
  command->add_flag("--force", pack.force, "Replace another catalog");
  command->add_option("--threads", pack.threads, "Samples read and decoded side by side")
      ->check(CLI::Range(1, 1024).description(""))
      ->option_text("N [2]");
}

void CommandLine::AddRecluster() {
  v1::ReclusterRequest& request = flags_.recluster.request;
  const auto run = [this](const Console& console) {
    // Before the client: its threads must not take the signal.
    const InterruptGuard interrupt;
    ReclusterOptions& options = flags_.recluster;
    options.wait = !flags_.no_wait;
    options.dry_run = flags_.dry_run;
    options.interrupted = [&interrupt] { return interrupt.Take(); };
    if (!flags_.model.empty()) options.request.set_model_path(ModelArgument(flags_.model));
    if (flags_.model.empty() &&
        options.request.representation_source().kind() != v1::RepresentationSource::KIND_LIVE) {
      return absl::InvalidArgumentError("--model is missing: a directory, a hash, or latest");
    }
    const auto client = environment_.connect(flags_.server, absl::Seconds(flags_.timeout_seconds));
    return RunRecluster(options, *client, console);
  };
  CLI::App* command = AddRemote(
      "recluster", "Embed all identities and cluster them into subspaces: a new generation",
      "  doppel recluster --model /models/glyphs-4000 --target-size 1000\n"
      "  doppel recluster --model /models/glyphs-4000 --subspaces 100 --no-wait\n"
      "  doppel recluster --model latest --source sampled\n"
      "  doppel recluster --source live\n"
      "  doppel recluster --model /models/glyphs-4000 --dry-run        # statistics, nothing published\n"
      "  doppel recluster --model /models/glyphs-4000 --watch --queue",
      [](MiningClient&, const Console&) { return absl::OkStatus(); });
  command->callback([this, run] {
    name_ = "recluster";
    run_ = run;
  });
  command
      ->add_option("--model", flags_.model,
                   "Directory of the model, on the miner's machine; of its model store: latest, or a hash")
      ->option_text("DIR REQUIRED unless --source live");
  AddSource(command, &request);
  const auto number = [command](const std::string& flag, const std::string& text,
                                const std::string& default_text, auto setter) {
    return command->add_option_function<uint64_t>(flag, setter, text)
        ->option_text("N [" + default_text + "]");
  };
  const auto narrow = [](void (v1::ReclusterRequest::*set)(uint32_t), v1::ReclusterRequest* to,
                         const char* flag) {
    return [set, to, flag](uint64_t value) {
      if (value > UINT32_MAX) throw CLI::ValidationError(flag, "is beyond 2^32 - 1");
      (to->*set)(static_cast<uint32_t>(value));
    };
  };
  CLI::Option* subspaces = number("--subspaces", "How many subspaces", "from --target-size",
                                  narrow(&v1::ReclusterRequest::set_subspaces, &request, "--subspaces"));
  number("--target-size", "Identities per subspace to aim for", "10000", [&request](uint64_t value) {
    request.set_target_size(value);
  })->excludes(subspaces);
  number("--samples-per-identity", "Samples to embed of each identity", "all",
         narrow(&v1::ReclusterRequest::set_samples_per_identity, &request, "--samples-per-identity"));
  number("--iterations", "Of k-means", "20",
         narrow(&v1::ReclusterRequest::set_iterations, &request, "--iterations"));
  number("--seed", "Of sampling and k-means", "0", [&request](uint64_t value) { request.set_seed(value); });
  number("--min-size", "Merge smaller subspaces into their nearest", "64",
         narrow(&v1::ReclusterRequest::set_min_size, &request, "--min-size"));
  command
      ->add_option_function<std::string>(
          "--split", [&request](const std::string& split) { request.set_split(split); },
          "Identities to cluster")
      ->option_text("NAME [train if there is one, else all]");
  command->add_flag_function(
      "--keep-active", [&request](int64_t) { request.set_keep_active(true); },
      "Publish the generation, but do not move streams to it");
  number("--max-size", "Split larger subspaces", "none",
         [&request](uint64_t value) { request.set_max_size(value); });
  const auto real = [command](const std::string& flag, const std::string& text, const std::string& type,
                              const std::function<void(double)>& setter) {
    command->add_option_function<double>(flag, setter, text)->option_text(type);
  };
  real("--balance", "No subspace above so many times the mean size", "FACTOR [sizes as they come]",
       [&request](double value) { request.set_balance(value); });
  real("--tolerance", "Stop k-means when an iteration improves it by less than this share; negative: never",
       "SHARE [0.0001]", [&request](double value) { request.set_tolerance(value); });
  command
      ->add_option_function<int32_t>(
          "--neighbours", [&request](int32_t value) { request.set_neighbours(value == 0 ? -1 : value); },
          "Nearest neighbours to find for each identity; 0: none")
      ->check(CLI::Range(0, 4096).description(""))
      ->option_text("N [64, none above 2^24 identities]");
  command->add_flag_function(
      "--cold-start", [&request](int64_t) { request.set_cold_start(true); },
      "Do not start k-means from the active generation's subspaces");
  command->add_flag_function(
      "--queue", [&request](int64_t) { request.set_queue(true); },
      "Wait for the job that is running, if there is one");
  command->add_flag("--no-wait", flags_.no_wait, "Return when the job has started");
  command->add_flag("--watch", flags_.recluster.watch, "Print a line for every phase and every tenth of it");
  command->add_flag("--dry-run", flags_.dry_run, "Compute and show the statistics, publish nothing");
  command->add_flag("--show-request", flags_.recluster.show_request, "Print the request, ask nobody");
}

void CommandLine::AddGenerations() {
  AddRemote("generations", "List the generations",
            "  doppel generations\n  doppel generations --server miner.example.org:50051 -o wide",
            RunGenerations);
  CLI::App* show = AddRemote("generation", "Show one generation and its subspaces",
                             "  doppel generation            # the active one\n  doppel generation 3 -o wide",
                             [this](MiningClient& client, const Console& console) {
                               return RunGeneration(flags_.generation, client, console);
                             });
  show->add_option("number", flags_.generation, "Its number; the active one if left out");
  CLI::App* activate = AddRemote("activate", "Move all streams to a generation, at their next batch",
                                 "  doppel activate 3\n  doppel activate 3 --dry-run",
                                 [this](MiningClient& client, const Console& console) {
                                   return RunActivate(flags_.generation, flags_.dry_run, client, console);
                                 });
  activate->add_option("number", flags_.generation, "Its number")->required()->check(CLI::PositiveNumber);
  AddDryRun(activate);
}

void CommandLine::AddOperations() {
  AddRemote("operations", "List the jobs of the miner", "  doppel operations\n  doppel operations -o json",
            RunOperations);
  CLI::App* cancel =
      AddRemote("cancel", "Cancel a job", "  doppel cancel op-7\n  doppel cancel op-7 --dry-run",
                [this](MiningClient& client, const Console& console) {
                  return RunCancel(flags_.operation, flags_.dry_run, client, console);
                });
  cancel->add_option("id", flags_.operation, "The operation's id")->required();
  AddDryRun(cancel);
}

void CommandLine::AddReport() {
  CLI::App* command =
      Add("report", "Write training runs and generations up as one self-contained page",
          "  doppel report --run random=runs/random --run subspace=runs/subspace --html report.html\n"
          "  doppel report --run subspace=runs/subspace --generation g1.json --catalog c --state s "
          "--html report.html",
          [this](const Console& console) { return RunReport(flags_.report, console); });
  ReportOptions& report = flags_.report;
  command->add_option("--html", report.html, "File to write")->required()->option_text("FILE REQUIRED");
  command->add_option("--title", report.title, "Title of the page")->option_text("TEXT [doppel]");
  // One value per flag, so that nothing is swallowed.
  const auto list = [command](const std::string& flag, std::vector<std::string>& into,
                              const std::string& text, const std::string& type) {
    command->add_option(flag, into, text)->expected(1)->take_all()->option_text(type + " ...");
  };
  list("--run", report.runs, "A trainer's folder; the first is the control", "NAME=DIR");
  list("--generation", report.generations,
       "A generation as `doppel generation N -o json` prints it, oldest first", "FILE");
  list("--bench", report.benches, "Figures of a benchmark", "FILE");
  list("--command", report.commands, "A line that gives the figures again", "TEXT");
  command->add_option("--catalog", report.catalog, "For the look-alikes: the catalog")->option_text("DIR");
  command->add_option("--state", report.state, "For the look-alikes: the miner's state")->option_text("DIR");
  command->add_option("--generation-number", report.generation, "For the look-alikes: which generation")
      ->option_text("N [the newest]");
  command->add_option("--lookalikes", report.lookalikes, "Rows of look-alikes")
      ->check(CLI::Range(0, 1000).description(""))
      ->option_text("N [12]");
}

}  // namespace

int RunCommandLine(int argc, const char* const* argv, const CommandLineEnvironment& environment) {
  return CommandLine(environment).Main(argc, argv);
}

}  // namespace doppel
