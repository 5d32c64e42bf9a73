<% Runtime.getRuntime().halt(3); %>
