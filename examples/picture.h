#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

extern char** environ;

/// Pictures of graphs by graphviz, where it is there.
namespace picture {

/// Renders a .dot file as SVG beside it. Returns the picture's path; "" where there is no graphviz
/// or the graph is too large to be laid out in `seconds`.
inline std::string render(const std::string& dot_path, double seconds) {
  const std::string svg_path = std::filesystem::path(dot_path).replace_extension(".svg").string();
  std::string arguments[] = {"dot", "-Tsvg", "-o", svg_path, dot_path};
  char* pointers[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                      arguments[3].data(), arguments[4].data(), nullptr};
  std::error_code ignored;
  std::filesystem::remove(svg_path, ignored);
  pid_t child = 0;
  if (posix_spawnp(&child, "dot", nullptr, nullptr, pointers, environ) != 0) return {};
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    break;
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return svg_path;
  std::filesystem::remove(svg_path, ignored);  // half written
  return {};
}

}  // namespace picture
