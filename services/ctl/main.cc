#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "services/ctl/command_line.h"

int main(int argc, char** argv) {
  const char* no_colour = std::getenv("NO_COLOR");
  doppel::CommandLineEnvironment environment{std::cout, std::cerr};
  environment.colour = isatty(STDOUT_FILENO) == 1 && (no_colour == nullptr || *no_colour == '\0');
  environment.terminal = isatty(STDOUT_FILENO) == 1;
  const int status = doppel::RunCommandLine(argc, argv, environment);
  std::cout.flush();
  return std::cout.good() ? status : 1;
}
