#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

/// Pictures of graphs by graphviz, where it is there.
namespace picture {

/// Renders a .dot file as SVG beside it. Returns the picture's path; "" where there is no graphviz
/// or the graph is too large to be laid out in `seconds`.
inline std::string render(const std::string& dot_path, double seconds = 6) {
  // graphviz takes minutes for graphs of thousands of edges, and there is nothing to see in them.
  std::ifstream file(dot_path);
  std::string line;
  int edges = 0;
  while (std::getline(file, line)) edges += line.find(" -> ") != std::string::npos ? 1 : 0;
  if (edges > 1500) return {};
  std::string svg_path = std::filesystem::path(dot_path).replace_extension(".svg").string();
  // Straight lines and few rounds of the layout: curves around the boxes take ten times as long.
  std::vector<std::string> arguments{
      "dot",           "-Tsvg", "-Gsplines=line", "-Gnslimit=0.5", "-Gnslimit1=0.5",
      "-Gmclimit=0.1", "-o",    svg_path,         dot_path};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  std::error_code ignored;
  std::filesystem::remove(svg_path, ignored);
  pid_t child = 0;
  if (posix_spawnp(&child, "dot", nullptr, nullptr, pointers.data(), environ) != 0) return {};
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
